import { describe, expect, test } from "vitest";
import { aClaim } from "../../test/builders/job.ts";
import { aNewMachine } from "../../test/builders/machine.ts";
import { aStore, type TestStore } from "../../test/builders/store.ts";
import { createManualClock } from "../base/manual-clock.ts";
import type { FailureCause } from "../domain/job-end.ts";
import type { Explanation } from "./api.ts";
import { createViews } from "./views.ts";

const clock = createManualClock();
const machineId = "fr-aaaaaaaa";

async function explain(live: (store: TestStore["store"]) => Promise<unknown>): Promise<Explanation> {
  await using kept = await aStore({ clock });
  await kept.store.claim(aClaim());
  await live(kept.store);
  const report = await createViews({ store: kept.store, now: clock.now }).job(4711);
  if (!report) throw new Error("the job is not known");
  return report.explanation;
}

async function boot(store: TestStore["store"]): Promise<void> {
  await store.startJob(4711, aNewMachine({ id: machineId }));
  await store.markBooting(machineId);
}

async function runJob(store: TestStore["store"]): Promise<void> {
  await boot(store);
  await store.markHeard(machineId);
  await store.markReady(machineId);
  await store.handOver(4711, machineId);
}

describe("a job whose machine is on another host", () => {
  const there = { id: machineId, driver: "flintlock", host: "metal-1" };

  test("is told of that host, and of no console of this computer", async () => {
    const { advice } = await explain((store) => store.startJob(4711, aNewMachine(there)));

    expect(advice.join()).toContain("metal-1");
    expect(advice.join()).not.toContain("logs");
  });

  test("that failed sends nobody to this computer", async () => {
    const lost = await explain(async (store) => {
      await store.startJob(4711, aNewMachine(there));
      await store.markBooting(machineId);
      await store.markHeard(machineId);
      await store.markReady(machineId);
      await store.handOver(4711, machineId);
      await store.failJob(4711, { reason: "the machine crashed", cause: "machine" });
      await store.finishJob(4711, "failed", { reason: "the machine crashed", cause: "machine" });
    });
    const never = await explain(async (store) => {
      await store.startJob(4711, aNewMachine(there));
      await store.note("machine:create-failed", { jobId: 4711, machineId }, { error: "no" });
      await store.failJob(4711, { reason: "no", cause: "never-started" });
      await store.finishJob(4711, "failed", { reason: "no", cause: "never-started" });
    });

    expect(lost.advice[0]).toMatch(/on metal-1.*firecracker.stdout/);
    expect(never.advice[0]).toContain("firerunner hosts check metal-1");
    expect([...lost.advice, ...never.advice].join()).not.toContain("this computer");
  });
});

describe("why a job is where it is", () => {
  test("a claimed job waits for a machine", async () => {
    expect((await explain(async () => {})).summary).toContain("waits for a machine");
  });

  test("a retried job names what went wrong before", async () => {
    const { cause } = await explain(async (store) => {
      await boot(store);
      await store.retryJob(4711, "it crashed");
    });

    expect(cause).toBe("it crashed");
  });

  test("a starting and a running job point at the machine's console", async () => {
    for (const live of [boot, runJob]) {
      const { advice, summary } = await explain(live);

      expect(advice.join()).toContain(`logs ${machineId} -f`);
      expect(advice.join().includes("logs 4711 -f")).toBe(live === runJob);
      expect(summary).toContain(machineId);
    }
  });

  test("one whose images are fetched says so, until they are here", async () => {
    const fetching = async (store: TestStore["store"]) => {
      await store.startJob(4711, aNewMachine({ id: machineId }));
      await store.note("machine:fetching", { machineId }, {});
    };
    const here = async (store: TestStore["store"]) => {
      await fetching(store);
      await store.note("machine:images-here", { machineId }, { tookMs: 5_000 });
    };

    expect(await explain(fetching)).toMatchObject({
      summary: expect.stringContaining("waits for the images that it names"),
      advice: [expect.stringContaining("containers.pullDeadline")],
    });
    expect((await explain(here)).summary).toContain("has a machine that is starting");
  });

  test("a failing job is being reported", async () => {
    const { summary, cause } = await explain(
      async (store) => await store.failJob(4711, { reason: "no room", cause: "machine" }),
    );

    expect(summary).toContain("GitLab is being told");
    expect(cause).toBe("no room");
  });
});

describe("how a job ended", () => {
  test.each([
    ["success", {}, "succeeded", null, 0],
    ["canceled", {}, "was canceled in GitLab", null, 0],
    ["failed", {}, "failed after", null, 1],
    ["failed", { reason: "of before" }, "lost its machine after", "of before", 2],
    ["unknown", {}, "did not say how", null, 1],
  ] as const)("%s (%o)", async (result, end, summary, cause, advices) => {
    const explanation = await explain(async (store) => {
      await runJob(store);
      await store.finishJob(4711, result, end);
    });

    expect(explanation.summary).toContain(summary);
    expect(explanation.cause).toBe(cause);
    expect(explanation.advice).toHaveLength(advices);
  });

  test.each<[FailureCause, RegExp, RegExp, boolean]>([
    ["script", /Job 4711 failed after/, /its own script failed/i, false],
    ["time-limit", /was ended at its time limit after/, /more time/, false],
    ["log-limit", /length of its log/, /write less/, false],
    ["memory", /want of memory/, /more memory/, false],
    ["host-disk", /disk of its host is full/, /free space/i, true],
    ["host-lost", /lost with its host/, /hosts check/, true],
    ["machine", /lost its machine/, /console/, true],
    ["shutdown", /ended with FireRunner/, /shutdown\.onLimit/, true],
    ["runner", /by the runner in its machine/, /what the runner could not do/, true],
    ["gitlab", /failed by GitLab/, /page in GitLab/, false],
  ])("a failure for %s has its own words", async (cause, summary, advice, isWorthRetry) => {
    const told = await explain(async (store) => {
      await runJob(store);
      await store.failJob(4711, { reason: "it was so", cause });
      await store.finishJob(4711, "failed");
    });

    expect(told.summary).toMatch(summary);
    expect(told.cause).toBe("it was so");
    expect(told.advice[0]).toMatch(advice);
    expect(told.advice.some((each) => each.includes("retry: {"))).toBe(isWorthRetry);
    if (cause !== "memory") expect(told.advice.join()).not.toMatch(/memory/);
  });

  test("a script whose machine had no memory left is told so before anything else", async () => {
    const { summary, cause, advice } = await explain(async (store) => {
      await runJob(store);
      await store.finishJob(4711, "failed", { cause: "script" });
      await store.note("machine:out-of-memory", { jobId: 4711, machineId }, { killed: 1 });
    });

    expect(summary).toContain("failed after");
    expect(cause).toContain("had no memory left");
    expect(advice[0]).toContain("more memory");
    expect(advice[1]).toMatch(/its own script failed/i);
  });

  test("advice follows how far its machines came", async () => {
    const neverMade = await explain(async (store) => {
      await store.startJob(4711, aNewMachine({ id: machineId }));
      await store.note("machine:create-failed", { machineId }, { error: "no qemu" });
      await store.finishJob(4711, "failed", { reason: "no machine", cause: "never-started" });
    });
    const neverSpoke = await explain(async (store) => {
      await boot(store);
      await store.finishJob(4711, "failed", { reason: "too slow", cause: "never-started" });
    });

    expect(neverMade.advice[0]).toContain("firerunner doctor");
    expect(neverSpoke.advice[0]).toContain("image verify");
  });
});
