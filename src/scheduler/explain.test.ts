import { describe, expect, test } from "vitest";
import { aJob, someTime } from "../../test/builders/job.ts";
import type { LifecycleEvent } from "../lifecycle/events.ts";
import { explainJob } from "./explain.ts";
import type { SchedulerStatus } from "./status.ts";

const now = someTime + 10_000;

function anEvent(event: Pick<LifecycleEvent, "kind" | "detail">, at = someTime): LifecycleEvent {
  return { seq: 1, at, jobId: 4711, machineId: "fr-aaaaaaaa", ...event } as LifecycleEvent;
}

function aStatus(overrides: Partial<SchedulerStatus> = {}): SchedulerStatus {
  const pool = { pool: "small", ok: true, problems: [], accelerator: "tcg", checkedAt: now, runnerInfo: {} };
  return {
    mode: "run",
    since: someTime,
    lastRound: undefined,
    unfinishedJobs: 1,
    liveMachines: 0,
    hosts: [],
    pools: [pool],
    work: [],
    ...overrides,
  };
}

describe("a job that waits", () => {
  test("is explained by the full host and by what is wrong with its pool", () => {
    const [pool] = aStatus().pools;
    const problems = [{ problem: "the image base is missing", hint: "run firerunner image build" }];
    const host = {
      driver: "qemu",
      host: "local",
      taken: { cpus: 4, memoryMib: 4_096, machines: 2 },
      capacity: { cpus: 4, memoryMib: 8_192, machines: 8 },
      problem: undefined,
    };
    const status = aStatus({ hosts: [host], pools: pool ? [{ ...pool, ok: false, problems }] : [] });

    const { summary, causes } = explainJob(aJob(), [], status, now);

    expect(summary).toBe("job 4711 (build) has been waiting for a machine for 10.0 s");
    expect(causes).toEqual([
      "local is full: 2 machines take 4 of 4 CPUs and 4 GiB of 8 GiB",
      "pool small: the image base is missing (run firerunner image build)",
    ]);
  });

  test("is explained by a driver that cannot be asked, and by what is tried again", () => {
    const empty = { cpus: 0, memoryMib: 0, machines: 0 };
    const host = { driver: "qemu", host: "local", taken: empty, capacity: undefined, problem: "it hangs" };
    const resting = { failures: 2, error: "image is missing", until: now + 1_500 };
    const work = [{ lane: "job:4711", name: "startMachine job 4711", since: now, resting }];

    const { causes } = explainJob(aJob(), [], aStatus({ hosts: [host], work }), now);

    expect(causes).toEqual([
      "startMachine job 4711 failed (2 times, last: image is missing) and is tried again in 1.5 s",
      "the qemu driver on local cannot be asked: it hangs",
    ]);
  });

  test("is explained by nobody running", () => {
    expect(explainJob(aJob(), [], undefined, now).causes).toEqual([
      "FireRunner is not running: start it, and it goes on with this job",
    ]);
  });
});

describe("a job that failed", () => {
  test("says that GitLab does not know yet, and why", () => {
    const job = aJob({ state: "failing", reportAt: now + 2_000 });
    const events = [anEvent({ kind: "job:report-failed", detail: { error: "no answer", retryAt: now } })];

    const { summary, causes } = explainJob(job, events, aStatus(), now);

    expect(summary).toContain("GitLab has not yet acknowledged it: the machine died");
    expect(causes).toEqual(["GitLab could not be told: no answer; tried again in 2.0 s"]);
  });

  test("shows the reason and the console's last lines", () => {
    const job = aJob({ state: "finished", result: "failed", reason: "the machine crashed" });
    const events = [anEvent({ kind: "machine:console", detail: { text: "panic" } })];

    const { summary, causes } = explainJob(job, events, aStatus(), now);

    expect(summary).toBe("job 4711 (build) ended: failed, because the machine crashed");
    expect(causes).toEqual(["last lines of the console of fr-aaaaaaaa:\npanic"]);
  });

  test("points to its log when its script failed", () => {
    const job = aJob({ state: "finished", result: "failed", reason: null });

    expect(explainJob(job, [], aStatus(), now).summary).toContain("by its own script; see its log in GitLab");
  });
});

test("the story tells each step with the time since the claim", () => {
  const events = [
    anEvent({
      kind: "job:claimed",
      detail: { pool: "small", runner: "glrt-abcd", name: "build", project: "p", pollMs: 1 },
    }),
    anEvent(
      { kind: "job:starting", detail: { machineId: "fr-aaaaaaaa", attempt: 1, host: "local" } },
      someTime + 500,
    ),
    anEvent({ kind: "machine:ready", detail: {} }, someTime + 900),
    anEvent({ kind: "machine:adopted", detail: { state: "busy" } }, someTime + 2_000),
  ];

  expect(explainJob(aJob({ state: "running" }), events, aStatus(), now).story).toEqual([
    "0 ms: claimed for pool small with runner glrt-abcd",
    "500 ms: attempt 1: machine fr-aaaaaaaa on local",
    "2.0 s: FireRunner was restarted and took machine fr-aaaaaaaa over (busy)",
  ]);
});
