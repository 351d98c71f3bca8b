import { expect, test } from "vitest";
import { describeOnEveryDatabase } from "../../test/builders/databases.ts";
import { aClaim } from "../../test/builders/job.ts";
import { aNewMachine } from "../../test/builders/machine.ts";
import { aNewRunner } from "../../test/builders/managed-runner.ts";
import { MINUTE_MS } from "../base/units.ts";
import type { Claim, UsageFilter } from "./store.ts";

describeOnEveryDatabase("the use of machines", (context) => {
  const size = { cpus: 2, memoryMib: 1_024, diskMib: 4_096 };

  /** Waits so long for its machine, and has it so long. */
  async function aWholeJob(jobId: number, claim: Partial<Claim> = {}, waitMs = 0, lifeMs = MINUTE_MS) {
    const { store, clock } = context;
    const id = `fr-${String(jobId).padStart(8, "a")}`;
    const pool = claim.pool ?? "small";
    await store.claim(aClaim({ jobId, size, ...claim }));
    await clock.advance(waitMs);
    await store.startJob(jobId, aNewMachine({ id, pool, size: claim.size ?? size }));
    await store.markBooting(id);
    await store.handOver(jobId, id);
    await clock.advance(lifeMs);
    await store.finishJob(jobId, "success");
    await store.stopMachine(id, "its job has ended");
    await store.markGone(id);
    return id;
  }

  function usage(filter: Partial<UsageFilter> = {}) {
    return context.store.usage({ by: "pool", since: 0, until: context.clock.now(), ...filter });
  }

  test("is what machines were and how long, by pool, the most first", async () => {
    await aWholeJob(1);
    await aWholeJob(2, { pool: "large", size: { ...size, cpus: 8 } }, 0, 2 * MINUTE_MS);
    await aWholeJob(3);

    expect(await usage()).toMatchObject([
      { key: "large", jobs: 1, vcpuMs: 16 * MINUTE_MS, mibMs: 2_048 * MINUTE_MS },
      { key: "small", jobs: 2, succeeded: 2, failed: 0, unfinished: 0, vcpuMs: 4 * MINUTE_MS },
    ]);
  });

  test("is cut at the ends of the period, and what lives counts until now", async () => {
    const { clock, store } = context;
    await aWholeJob(1, {}, 0, 10 * MINUTE_MS);
    const since = clock.now() - MINUTE_MS;
    await store.claim(aClaim({ jobId: 2, size }));
    await store.startJob(2, aNewMachine({ id: "fr-bbbbbbbb", size }));
    await clock.advance(3 * MINUTE_MS);

    expect(await usage({ since })).toMatchObject([{ jobs: 2, unfinished: 1, vcpuMs: 2 * 4 * MINUTE_MS }]);
    expect(await usage({ since: since - MINUTE_MS, until: since })).toMatchObject([
      { jobs: 1, vcpuMs: 2 * MINUTE_MS },
    ]);
    expect(await usage({ since: clock.now() + 1, until: clock.now() + 2 })).toHaveLength(1);
    expect(await usage({ since: 0, until: 1 })).toEqual([]);
  });

  test("counts the machines of every try", async () => {
    const { clock, store } = context;
    await store.claim(aClaim({ jobId: 1, size }));
    await store.startJob(1, aNewMachine({ id: "fr-bbbbbbbb", size }));
    await clock.advance(MINUTE_MS);
    await store.retryJob(1, "it crashed");
    await store.markGone("fr-bbbbbbbb");
    await store.startJob(1, aNewMachine({ id: "fr-cccccccc", size }));
    await clock.advance(MINUTE_MS);

    expect(await usage()).toMatchObject([{ jobs: 1, vcpuMs: 4 * MINUTE_MS }]);
  });

  test("has the waits, in GitLab and here, of those that have begun", async () => {
    for (let at = 1; at <= 20; at++) await aWholeJob(at, {}, at * 1_000);
    await aWholeJob(21, { pool: "other", queuedMs: 5_000 }, 2_000);
    await context.store.claim(aClaim({ jobId: 22, size, pool: "none" }));
    await context.clock.advance(1);

    const rows = new Map((await usage()).map((row) => [row.key, row]));
    const whole = { waits: 20, medianWaitMs: 10_000, p95WaitMs: 19_000, longestWaitMs: 20_000 };
    expect(rows.get("small")).toMatchObject(whole);
    expect(rows.get("other")).toMatchObject({ medianWaitMs: 7_000, p95WaitMs: 7_000, longestWaitMs: 7_000 });
    expect(rows.get("none")).toMatchObject({ jobs: 1, waits: 0, medianWaitMs: null, p95WaitMs: null });
  });

  test("has the largest peaks that guests have told, which only grow", async () => {
    const { store } = context;
    const id = await aWholeJob(1);
    expect(await store.notePeaks(1, id, { memoryMib: 500 })).toBe(true);
    expect(await store.notePeaks(1, id, { memoryMib: 400, diskMib: 7 })).toBe(true);
    expect(await store.notePeaks(1, id, { memoryMib: 500, diskMib: 7 })).toBe(false);
    expect(await store.notePeaks(1, "fr-somebody", { memoryMib: 600 })).toBe(false);
    expect(await store.notePeaks(9, id, { memoryMib: 600 })).toBe(false);
    await aWholeJob(2);

    expect(await store.job(1)).toMatchObject({ peakMemoryMib: 500, peakDiskMib: 7 });
    expect(await usage()).toMatchObject([
      { jobs: 2, memoryMeasured: 1, peakMemoryMib: 500, diskMeasured: 1, peakDiskMib: 7 },
    ]);
  });

  test("is told of a project, and of all below a group", async () => {
    await aWholeJob(1, { project: "group/app" });
    await aWholeJob(2, { project: "group/sub/lib", pool: "large" });
    await aWholeJob(3, { project: "groups/app" });

    const keys = async (filter: Partial<UsageFilter>) =>
      (await usage({ by: "project", ...filter })).map(({ key }) => key).sort();
    expect(await keys({})).toEqual(["group/app", "group/sub/lib", "groups/app"]);
    expect(await keys({ project: "group" })).toEqual(["group/app", "group/sub/lib"]);
    expect(await keys({ project: "group", pool: "large" })).toEqual(["group/sub/lib"]);
  });

  test("counts for each tag of a job; those of runners with a token of their own are not known", async () => {
    const { store } = context;
    const awkward = 'a"b\\c';
    await store.addRunner(
      aNewRunner({ key: "r-aaaaaaaa", pool: "tags:docker,gpu", tags: ["docker", "gpu"] }),
    );
    await store.addRunner(aNewRunner({ key: "r-bbbbbbbb", pool: "job:2", tags: ["gpu", awkward, "dock"] }));
    await aWholeJob(1, { pool: "tags:docker,gpu" });
    await aWholeJob(2, { pool: "job:2" });
    await aWholeJob(3, { pool: "small" });

    const rows = await usage({ by: "tag" });
    expect(Object.fromEntries(rows.map(({ key, jobs }) => [key, jobs]))).toEqual({
      ...{ docker: 1, gpu: 2, dock: 1, [awkward]: 1, null: 1 },
    });
  });

  test("by tag is none where no runner was made", async () => {
    await aWholeJob(1);

    expect(await usage({ by: "tag" })).toMatchObject([{ key: null, jobs: 1 }]);
  });
});
