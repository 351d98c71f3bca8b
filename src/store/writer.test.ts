import { CamelCasePlugin, Kysely, sql } from "kysely";
import { describe, expect, test } from "vitest";
import { createListeners } from "../base/listeners.ts";
import { createManualClock } from "../base/manual-clock.ts";
import type { LifecycleEvent } from "../domain/events.ts";
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

  test("gives its reserve away when the disk is full, and makes the change once more", async () => {
    const dialect = sqliteDialect(IN_MEMORY);
    const db = new Kysely<Tables>({ dialect, plugins: [new CamelCasePlugin()] });
    await migrate(db);
    const { rows } = await sql<{ pageCount: number }>`pragma page_count`.execute(db);
    const pages = rows[0]?.pageCount ?? 0;
    const limit = (most: number) => sql.raw(`pragma max_page_count = ${most}`).execute(db);
    await limit(pages);
    const kinds: string[] = [];
    const listeners = createListeners<LifecycleEvent>();
    listeners.add(({ kind }) => void kinds.push(kind));
    let reserves = 1;
    const reserve = {
      keep: async () => {},
      async release() {
        if (reserves-- < 1) return false;
        await limit(pages + 8);
        return true;
      },
    };
    const clock = createManualClock();
    const { write } = createWriter({ db, clock, listeners, flush: async () => {}, reserve });
    const about = { jobId: 1, machineId: null };
    const fill = (bytes: number) =>
      write("a long reason", async ({ record }) =>
        record("job:failing", about, { reason: "x".repeat(bytes) }),
      );

    await fill(16_000);
    const refused = await fill(64_000).catch((error: unknown) => error);
    await fill(100);

    expect(kinds).toEqual(["job:failing", "job:failing"]);
    expect(refused).toMatchObject({ code: "store_full", retryable: true });
    await db.destroy();
  });
});
