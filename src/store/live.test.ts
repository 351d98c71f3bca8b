import { describe, expect, test } from "vitest";
import { describeOnEveryDatabase } from "../../test/builders/databases.ts";
import { aClaim, aJob } from "../../test/builders/job.ts";
import { aMachine, aNewMachine } from "../../test/builders/machine.ts";
import { createLive } from "./live.ts";

describeOnEveryDatabase("what lives", (context) => {
  test("whoever changed something sees it in the next list and the next row", async () => {
    const { store } = context;
    const states = async () => [
      ...(await store.jobs({ unfinished: true })).map(({ id, state }) => `${id} ${state}`),
      ...(await store.machines({ live: true })).map(({ id, state }) => `${id} ${state}`),
    ];

    expect(await states()).toEqual([]);
    await store.claim(aClaim({ jobId: 1 }));
    expect(await states()).toEqual(["1 claimed"]);
    await store.startJob(1, aNewMachine({ id: "fr-aaaaaaaa" }));
    expect(await states()).toEqual(["1 starting", "fr-aaaaaaaa creating"]);
    await store.markBooting("fr-aaaaaaaa");
    expect(await states()).toEqual(["1 starting", "fr-aaaaaaaa booting"]);
    await store.addTraceHead(1, "hello\n");
    expect(await store.job(1)).toMatchObject({ traceHead: "hello\n" });
    await store.finishJob(1, "canceled");
    await store.stopMachine("fr-aaaaaaaa", "its job has ended");
    expect(await states()).toEqual(["fr-aaaaaaaa stopping"]);
    expect(await store.job(1)).toMatchObject({ state: "finished" });
  });

  test("hosts are drained and resumed in the next list", async () => {
    const { store } = context;

    await store.drainHost("metal-2");
    expect(await store.drainedHosts()).toEqual(["metal-2"]);
    await store.drainHost("metal-1");
    expect(await store.drainedHosts()).toEqual(["metal-1", "metal-2"]);
    await store.resumeHost("metal-2");
    expect(await store.drainedHosts()).toEqual(["metal-1"]);
    await context.reopen();
    expect(await context.store.drainedHosts()).toEqual(["metal-1"]);
  });

  test("a restart finds all of it, and changes of it follow", async () => {
    for (const jobId of [1, 2, 3]) await context.store.claim(aClaim({ jobId }));
    await context.reopen();
    const { store } = context;
    const ids = async () => (await store.jobs({ unfinished: true })).map(({ id }) => id);

    expect(await ids()).toEqual([3, 2, 1]);
    await store.finishJob(2, "canceled");
    await store.claim(aClaim({ jobId: 4 }));
    expect(await ids()).toEqual([4, 3, 1]);
  });

  test("lists that are asked for while changes are under way are never older than their last answer", async () => {
    const { store } = context;
    const changes: Promise<unknown>[] = [];
    for (let jobId = 1; jobId <= 50; jobId++) {
      changes.push(store.claim(aClaim({ jobId })));
      const before = store.jobs({ unfinished: true });
      await changes.at(-1);
      expect(await store.jobs({ unfinished: true })).toHaveLength(jobId);
      await before;
    }
  });
});

describe("what is kept of it", () => {
  /** A database of one job and one machine that counts how often it is asked. */
  function aDatabase() {
    const rows = { job: aJob({ id: 1 }), machine: aMachine({ id: "fr-a" }) };
    let reads = 0;
    const counted = async <Value>(value: Value) => {
      reads++;
      return value;
    };
    const live = createLive({
      job: (id) => counted(id === rows.job.id ? rows.job : undefined),
      jobs: () => counted([rows.job]),
      machine: (id) => counted(id === rows.machine.id ? rows.machine : undefined),
      machines: () => counted([rows.machine]),
      drainedHosts: () => counted([]),
    });
    return { live, rows, reads: () => reads };
  }

  test("is read once, and nobody's list is another's", async () => {
    const { live, reads } = aDatabase();
    const jobs = () => live.reads.jobs({ unfinished: true });

    const [first, second] = [await jobs(), await jobs()];
    first.pop();
    expect(second).toHaveLength(1);
    await live.reads.job(1);
    expect(reads()).toBe(1);
  });

  test("is read anew when nobody knows what a change has done, and while it is not known nothing is answered", async () => {
    const { live, rows, reads } = aDatabase();
    await live.reads.jobs({ unfinished: true });
    live.begun();
    rows.job = aJob({ id: 1, state: "running" });
    const asked = live.reads.job(1);
    await new Promise((resolve) => setImmediate(resolve));
    expect(reads()).toBe(1);
    live.ended(undefined);

    expect(await asked).toMatchObject({ state: "running" });
    expect(await live.reads.jobs({ unfinished: true })).toMatchObject([{ state: "running" }]);
  });

  test("is not kept when a change was under way at any time of its reading", async () => {
    const { live, rows } = aDatabase();
    const early = live.reads.jobs({ unfinished: true });
    live.begun();
    const running = aJob({ id: 1, state: "running" });
    rows.job = running;
    live.ended([{ job: running }]);
    await early;

    expect(await live.reads.jobs({ unfinished: true })).toEqual([running]);
  });

  test("is what it was before a change that was refused", async () => {
    const { live, reads } = aDatabase();
    const before = await live.reads.jobs({ unfinished: true });
    live.begun();
    live.ended([]);

    expect(await live.reads.jobs({ unfinished: true })).toEqual(before);
    expect(reads()).toBe(1);
  });
});
