import { describe, expect, test } from "vitest";
import { aClaim } from "../../test/builders/job.ts";
import { aPayload } from "../../test/builders/payload.ts";
import { aPool } from "../../test/builders/pool.ts";
import { silentLog } from "../base/log.ts";
import { createManualClock, type ManualClock } from "../base/manual-clock.ts";
import { Secret } from "../base/secret.ts";
import type { JobUpdate, RemoteJobStatus, TraceStatus } from "../gitlab/runner-api.ts";
import { JobPayload } from "../gitlab/runner-api.ts";
import { claimOf, rejectJob, shortToken, storeClaim } from "./claimed-job.ts";

const away = { kind: "unavailable", waitMs: 0, problem: "GitLab is away" } as const;
const jobToken = new Secret("glcbt-1");
const rejection = { jobId: 1, jobToken, reason: "the disk is full" };

/** A GitLab whose answers a test sets, on a clock that it moves. */
function createGitLab() {
  const clock = createManualClock();
  const ending = new AbortController();
  const traces: string[] = [];
  const updates: JobUpdate[] = [];
  const answers: { trace: () => TraceStatus; update: () => RemoteJobStatus } = {
    trace: () => ({ kind: "accepted", sizeBytes: 1, status: "running", intervalMs: undefined }),
    update: () => ({ kind: "accepted", status: "failed" }),
  };
  const api = {
    async appendTrace({ bytes }: { bytes: Uint8Array }) {
      traces.push(Buffer.from(bytes).toString());
      return answers.trace();
    },
    async updateJob(update: JobUpdate) {
      updates.push(update);
      return answers.update();
    },
  };
  const deps = { api, clock, random: () => 0.5, log: silentLog, ending: ending.signal };
  return { deps, clock, ending, traces, updates, answers };
}

/** Lets what was begun reach its first sleep, and then time pass. */
async function passTime(clock: ManualClock, ms: number): Promise<void> {
  await clock.advance(0);
  await clock.advance(ms);
}

/** What has become of a promise by now. */
function watch<T>(promise: Promise<T>) {
  const outcome: { value?: T; done: boolean } = { done: false };
  promise.then(
    (value) => Object.assign(outcome, { value, done: true }),
    () => Object.assign(outcome, { done: true }),
  );
  return outcome;
}

describe("rejectJob", () => {
  test("writes the reason and fails the job", async () => {
    const { deps, traces, updates } = createGitLab();

    expect(await rejectJob(deps, rejection)).toBe(true);

    expect(traces).toEqual(["FireRunner could not take this job: the disk is full\n"]);
    expect(updates).toEqual([
      { jobId: 1, jobToken, state: "failed", failureReason: "runner_system_failure" },
    ]);
  });

  test("goes on until GitLab answers, without writing the reason twice", async () => {
    const { deps, clock, answers, traces, updates } = createGitLab();
    let tries = 0;
    answers.update = () => (++tries < 10 ? away : { kind: "accepted", status: "failed" });

    const outcome = watch(rejectJob(deps, rejection));
    await passTime(clock, 600_000);

    expect(outcome).toEqual({ done: true, value: true });
    expect(traces).toHaveLength(1);
    expect(updates).toHaveLength(10);
  });

  test("sends a final update again when GitLab asks for it, as late as it asks", async () => {
    const { deps, clock, answers, updates } = createGitLab();
    answers.update = () =>
      updates.length < 2 ? { kind: "again", waitMs: 8_000 } : { kind: "accepted", status: "failed" };

    const outcome = watch(rejectJob(deps, rejection));
    await passTime(clock, 7_999);
    expect(updates).toHaveLength(1);
    await passTime(clock, 1);

    expect(outcome.value).toBe(true);
  });

  test("fails the job even if its trace cannot be written", async () => {
    const { deps, clock, answers, traces } = createGitLab();
    answers.trace = () => away;

    const outcome = watch(rejectJob(deps, rejection));
    await passTime(clock, 60_000);

    expect(outcome.value).toBe(true);
    expect(traces).toHaveLength(3);
  });

  test("is content when GitLab has ended the job itself", async () => {
    const { deps, answers } = createGitLab();
    answers.trace = () => ({ kind: "over", status: "canceled" });
    answers.update = () => ({ kind: "over", status: "canceled" });

    expect(await rejectJob(deps, rejection)).toBe(true);
  });

  test("gives up after the time in which GitLab ends the job", async () => {
    const { deps, clock, answers } = createGitLab();
    answers.update = () => away;

    const outcome = watch(rejectJob(deps, rejection));
    await passTime(clock, 3_500_000);
    expect(outcome.done).toBe(false);
    await passTime(clock, 200_000);

    expect(outcome).toEqual({ done: true, value: false });
  });

  test("tries half a minute more when the program has to end", async () => {
    const { deps, clock, ending, answers, updates } = createGitLab();
    answers.update = () => away;
    const outcome = watch(rejectJob(deps, rejection));
    await passTime(clock, 600_000);
    const before = updates.length;

    ending.abort();
    await passTime(clock, 29_000);
    expect(outcome.done).toBe(false);
    await passTime(clock, 2_000);

    expect(outcome).toEqual({ done: true, value: false });
    expect(updates.length).toBeGreaterThan(before);
  });
});

describe("keepJob", () => {
  test("is content with a job that an earlier try has stored after all", async () => {
    const { deps, updates } = createGitLab();
    const store = { claim: async () => false };

    expect(await storeClaim({ ...deps, store, onFailure: () => {} }, aClaim(), jobToken)).toBe(true);
    expect(updates).toEqual([]);
  });

  test("tries for a minute, then ends the job in GitLab", async () => {
    const { deps, clock, updates, traces } = createGitLab();
    const troubles: string[] = [];
    const store = {
      claim: async (): Promise<boolean> => {
        throw new Error("the disk is full");
      },
    };
    const kept = storeClaim({ ...deps, store, onFailure: (text) => troubles.push(text) }, aClaim(), jobToken);
    const outcome = watch(kept);

    await passTime(clock, 55_000);
    expect(outcome.done).toBe(false);
    expect(updates).toEqual([]);
    await passTime(clock, 10_000);

    expect(outcome).toEqual({ done: true, value: false });
    expect(traces[0]).toContain("it could not be stored (the disk is full)");
    expect(updates).toHaveLength(1);
    expect(troubles.length).toBeGreaterThan(5);
    expect(troubles.length).toBeLessThan(60);
  });
});

test.each([
  ["glrt-abcdefghijkl", "glrt-abcd"],
  ["glrt-t1_abcdefghijkl", "glrt-t1_abcd"],
  ["acme-glrt-t3_abcdefghijkl", "acme-glrt-t3_abcd"],
  ["glrtr-abcdefghijkl", "glrtr-abcd"],
  ["0123456789", "0123"],
  ["abc", ""],
])("people know the runner of %s by %s", (token, short) => {
  expect(shortToken(new Secret(token))).toBe(short);
});

test("a claim is made even from a payload that says little", () => {
  const raw = { ...aPayload({ id: 3 }), job_info: { name: "build" }, runner_info: null };

  const claim = claimOf(aPool(), { payload: JobPayload.parse(raw), raw: "raw", pollMs: 12 });

  expect(claim).toMatchObject({ jobId: 3, name: "build", stage: "", project: "", timeoutMs: 3_600_000 });
  expect(claim.payload).toBe("raw");
});

test.each([
  [12.34, 12_340],
  [0, 0],
  [null, undefined],
  [undefined, undefined],
  [-3, undefined],
  ["soon", undefined],
])("time in GitLab's queue that is given as %s is %s ms, and never a reason to refuse a job", (given, ms) => {
  const raw = { ...aPayload({ id: 3 }), job_info: { name: "build", time_in_queue_seconds: given } };

  expect(claimOf(aPool(), { payload: JobPayload.parse(raw), raw: "raw", pollMs: 12 }).queuedMs).toBe(ms);
});
