import { CamelCasePlugin, Kysely } from "kysely";
import { describe, expect, test } from "vitest";
import { createListeners } from "../base/listeners.ts";
import { createManualClock } from "../base/manual-clock.ts";
import type { LifecycleEvent } from "../lifecycle/events.ts";
import { migrate } from "./migrate.ts";
import { IN_MEMORY, sqliteDialect } from "./sqlite.ts";
import type { Tables } from "./tables.ts";
import { createWriter } from "./writer.ts";

async function aWriter(order: string[]) {
  const db = new Kysely<Tables>({ dialect: sqliteDialect(IN_MEMORY), plugins: [new CamelCasePlugin()] });
  await migrate(db);
  const listeners = createListeners<LifecycleEvent>();
  listeners.add(({ kind }) => void order.push(kind));
  const flush = async () => void order.push("flushed");
  return createWriter({ db, clock: createManualClock(), listeners, flush });
}

describe("the writer", () => {
  test("flushes what must survive a power cut before anybody hears of it, and nothing else", async () => {
    const order: string[] = [];
    const { write, close } = await aWriter(order);
    const about = { jobId: 1, machineId: null };

    await write("a", async ({ record }) => record("job:running", about, { machineId: "fr-a" }), "power-cut");
    await write("b", async ({ record }) => record("job:failing", about, { reason: "because" }));
    await write("c", async () => false, "power-cut");
    await close();

    expect(order).toEqual(["flushed", "job:running", "job:failing"]);
  });
});
