import type { JobState } from "../../src/domain/states.ts";
import type { Claim, Job } from "../../src/store/store.ts";
import { aPayload } from "./payload.ts";
import { aSize } from "./size.ts";

export const someTime = 1_700_000_000_000;

/** What a job row says by virtue of its state; ticks are seconds after the claim. */
const byState: Record<JobState, Partial<Job>> = {
  claimed: {},
  starting: { attempt: 1, machineId: "fr-aaaaaaaa", startingAt: someTime + 1_000 },
  running: {
    attempt: 1,
    machineId: "fr-aaaaaaaa",
    startingAt: someTime + 1_000,
    runningAt: someTime + 3_000,
  },
  failing: {
    attempt: 1,
    machineId: "fr-aaaaaaaa",
    startingAt: someTime + 1_000,
    failingAt: someTime + 4_000,
    reportAt: someTime + 4_000,
    reason: "the machine died",
    cause: "machine",
  },
  finished: {
    attempt: 1,
    machineId: "fr-aaaaaaaa",
    startingAt: someTime + 1_000,
    runningAt: someTime + 3_000,
    finishedAt: someTime + 5_000,
    result: "success",
  },
};

/** A job row that makes sense for its state (`claimed` unless said). */
export function aJob(overrides: Partial<Job> = {}): Job {
  const state = overrides.state ?? "claimed";
  return {
    id: 4711,
    pool: "small",
    runner: "glrt-abcd",
    state,
    name: "build",
    stage: "test",
    project: "group/project",
    size: aSize(),
    timeoutMs: 3_600_000,
    attempt: 0,
    machineId: null,
    traceHead: "",
    traceSize: 0,
    claimedAt: someTime,
    startingAt: null,
    runningAt: null,
    failingAt: null,
    finishedAt: null,
    reportAt: null,
    result: null,
    reason: null,
    cause: null,
    ...{ queuedMs: null, peakMemoryMib: null, peakDiskMib: null },
    ...byState[state],
    ...overrides,
  };
}

/** What the claimer hands to the store. The payload is one of GitLab's for the same job id. */
export function aClaim(overrides: Partial<Claim> = {}): Claim {
  const jobId = overrides.jobId ?? 4711;
  return {
    jobId,
    pool: "small",
    runner: "glrt-abcd",
    name: "build",
    stage: "test",
    project: "group/project",
    size: aSize(),
    timeoutMs: 3_600_000,
    pollMs: 12,
    payload: JSON.stringify(aPayload({ id: jobId })),
    ...overrides,
  };
}
