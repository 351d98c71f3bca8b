import { CamelCasePlugin, Kysely, sql } from "kysely";
import { describe, expect, test } from "vitest";
import { describeOnEveryDatabase } from "../../test/builders/databases.ts";
import { aClaim } from "../../test/builders/job.ts";
import { aNewMachine } from "../../test/builders/machine.ts";
import { createListeners } from "../base/listeners.ts";
import { createManualClock } from "../base/manual-clock.ts";
import type { LifecycleEvent } from "../domain/events.ts";
import { IN_MEMORY, migrate, sqliteDialect } from "./sqlite.ts";
import type { Tables } from "./tables.ts";
import { createWriter } from "./writer.ts";

const nobody = { begun() {}, ended() {} };

async function aWriter(order: string[]) {
  const db = new Kysely<Tables>({ dialect: sqliteDialect(IN_MEMORY), plugins: [new CamelCasePlugin()] });
  await migrate(db);
  const listeners = createListeners<LifecycleEvent>();
  listeners.add(({ kind }) => void order.push(kind));
  const flush = async () => void order.push("flushed");
  return createWriter({ db, clock: createManualClock(), listeners, watch: nobody, flush });
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
    let failures = 0;
    const { write } = createWriter({
      ...{ db, clock, listeners, reserve, watch: nobody, flush: async () => {} },
      onError: () => void failures++,
    });
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
    // A change that was made with the reserve's space has not failed.
    expect(failures).toBe(1);
    await db.destroy();
  });
});

describeOnEveryDatabase("events", (context) => {
  const machineId = "fr-aaaaaaaa";

  test("every move is explained, in order, for the job and for its machine", async () => {
    const { store, clock } = context;
    await store.claim(aClaim());
    await store.startJob(4711, aNewMachine());
    await clock.advance(1_000);
    await store.markBooting(machineId);
    await store.markReady(machineId);
    await store.handOver(4711, machineId);
    await store.finishJob(4711, "success");
    await store.stopMachine(machineId, "its job has ended");
    await store.markGone(machineId);

    const ofJob = await store.events({ jobId: 4711 });
    expect(ofJob.map((event) => event.kind)).toEqual([
      "job:claimed",
      "machine:creating",
      "job:starting",
      "machine:booting",
      "machine:ready",
      "machine:busy",
      "job:running",
      "job:finished",
      "machine:stopping",
      "machine:gone",
    ]);
    expect((await store.events({ machineId })).map((event) => event.kind)).toEqual(
      ofJob.slice(1).map((event) => event.kind),
    );
    expect(ofJob[3]).toEqual({
      seq: 4,
      at: clock.now(),
      kind: "machine:booting",
      jobId: 4711,
      machineId,
      detail: {},
    });
  });

  test("a refused move leaves no event", async () => {
    await context.store.failJob(4711, { reason: "unknown job", cause: "machine" });
    await context.store.markGone(machineId);

    expect(await context.store.events({})).toEqual([]);
  });

  test("a note about a machine also belongs to the machine's job", async () => {
    await context.store.claim(aClaim());
    await context.store.startJob(4711, aNewMachine());

    await context.store.note("egress:refused", { machineId }, { target: "10.0.0.1:22", reason: "private" });
    await context.store.note("machine:unknown", { machineId: "fr-zzzzzzzz" }, { host: "local" });

    expect((await context.store.events({ jobId: 4711 })).at(-1)).toMatchObject({
      kind: "egress:refused",
      machineId,
      detail: { target: "10.0.0.1:22", reason: "private" },
    });
    expect(await context.store.events({ machineId: "fr-zzzzzzzz" })).toMatchObject([{ jobId: null }]);
  });

  test("the log can be followed from a number on, a page at a time", async () => {
    for (const jobId of [1, 2, 3, 4]) await context.store.claim(aClaim({ jobId }));

    const page = await context.store.events({ afterSeq: 1, limit: 2 });

    expect(page.map((event) => event.seq)).toEqual([2, 3]);
  });

  test("listeners hear what is committed, once, in order", async () => {
    const { store } = context;
    const heard: LifecycleEvent[] = [];
    const stop = store.onEvent((event) => heard.push(event));
    await Promise.all([1, 2, 3, 4, 5].map((jobId) => store.claim(aClaim({ jobId }))));
    await Promise.all([
      store.startJob(1, aNewMachine()),
      store.startJob(2, aNewMachine()),
      store.finishJob(3, "canceled"),
    ]);
    stop();
    await store.failJob(4, { reason: "nobody listens any more", cause: "machine" });

    expect(heard).toEqual((await store.events({})).slice(0, heard.length));
    expect(heard.map((event) => event.seq)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  });

  test("a listener may call the store, which already has the change", async () => {
    const { store } = context;
    const seen = new Promise((resolve, reject) => {
      store.onEvent((event) => {
        if (event.kind === "job:claimed") store.job(event.jobId ?? 0).then(resolve, reject);
      });
    });

    await store.claim(aClaim());

    expect(await seen).toMatchObject({ id: 4711, state: "claimed" });
  });

  test("a listener that throws disturbs nobody", async () => {
    const { store } = context;
    const heard: string[] = [];
    store.onEvent(() => {
      throw new Error("bug in a listener");
    });
    store.onEvent((event) => heard.push(event.kind));

    expect(await store.claim(aClaim())).toBe(true);
    expect(heard).toEqual(["job:claimed"]);
  });

  test("numbers are never given out again, also after a restart and after all events were deleted", async () => {
    await context.store.claim(aClaim());
    await context.store.finishJob(4711, "success");
    await context.clock.advance(1_000);
    await context.store.prune(context.clock.now());
    await context.reopen();

    await context.store.claim(aClaim({ jobId: 2 }));

    expect((await context.store.events({})).map((event) => event.seq)).toEqual([3]);
  });
});
