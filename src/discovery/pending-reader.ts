/** Reads the pending jobs of one project and handles its failure: for that project, or for all when GitLab itself cannot be read. */
import type { Clock } from "../base/clock.ts";
import { withDeadline } from "../base/deadline.ts";
import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { ApiJob, GitLabRest } from "../gitlab/rest-api.ts";
import type { DeliveryStore } from "../store/jobs-by-tag.ts";
import type { ApiPace } from "./api-pace.ts";
import { createSharedReadFailures, readFailure } from "./api-pace.ts";
import type { PendingJobIndex } from "./pending-job-index.ts";
import { beginRead, endRead, failRead, type ProjectWatch, type Read } from "./project-watch.ts";

/** A list of thousands of jobs takes GitLab some time; what takes longer is given up and tried again. */
const READ_LIMIT_MS = 60_000;
const PAGE_SIZE = 100;
const passingBackoff = { baseMs: 1_000, capMs: 60_000 };
/** Until somebody changes something. */
const lastingBackoff = { baseMs: 30_000, capMs: 1_800_000 };
/** A project whose jobs GitLab has not found so often may be gone itself. */
const GONE_AFTER = 3;

export interface PendingReaderOptions {
  readonly rest: Pick<GitLabRest, "pendingJobs" | "budget">;
  readonly store: Pick<DeliveryStore, "noteProjectRead">;
  readonly index: PendingJobIndex;
  readonly missed: MissedJobs;
  readonly pace: ApiPace;
  readonly intervalMs: number;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
  /** A project may be dropped while it is read. */
  readonly isServed: (watch: ProjectWatch) => boolean;
  /** A read has ended: there is room for another. */
  readonly onEnd: () => void;
  /** GitLab says again and again that there is no such thing. */
  readonly onGone: (watch: ProjectWatch) => void;
}

export interface PendingReader {
  /** Begins; the rest goes on by itself. */
  read(watch: ProjectWatch): void;
  /** How many are under way. */
  reading(): number;
  /** Nothing is to be read before (epoch ms). */
  waitUntil(): number;
  /** Why nothing can be read. */
  problem(): string | undefined;
  /** Resolves when nothing is under way; what is is interrupted. */
  stop(): Promise<void>;
}

export function createPendingReader(options: PendingReaderOptions): PendingReader {
  const { rest, store, index, missed, pace, clock, random, log } = options;
  const ending = new AbortController();
  const working = new Set<Promise<void>>();
  const shared = createSharedReadFailures(options);

  function read(watch: ProjectWatch): void {
    const begun = beginRead(watch, clock.now());
    pace.spend();
    const work = seeThrough(watch, begun)
      .catch((error: unknown) => {
        // After its end the read itself was good, and the store was not.
        if (watch.isReading) fail(watch, begun, error);
        else log.error({ err: error }, "it could not be recorded that pending jobs were read");
      })
      .finally(() => {
        working.delete(work);
        options.onEnd();
      });
    working.add(work);
  }

  async function seeThrough(watch: ProjectWatch, begun: Read): Promise<void> {
    const limit = { limitMs: READ_LIMIT_MS, parent: ending.signal, late: tooLong, cleanUpMs: 0 };
    const jobs = await withDeadline(clock, limit, (signal) => rest.pendingJobs(watch.id, signal));
    pace.spend(Math.floor(jobs.length / PAGE_SIZE));
    if (!options.isServed(watch)) return;
    const isMissed = (job: ApiJob) => missed.isMissed(job, watch.hookedAt);
    missed.add(watch.path, await index.replace(watch, jobs, isMissed));
    noteRecovery(watch, shared.noteSuccess());
    const listed = new Set(jobs.map(({ id }) => id));
    const shows = (jobId: number) => listed.has(jobId) || index.wasClaimed(jobId);
    endRead(watch, begun, shows, { now: clock.now(), intervalMs: options.intervalMs, random });
    await store.noteProjectRead(watch.id, begun.beganAt);
  }

  function noteRecovery({ path, problem }: ProjectWatch, wasCommon: boolean): void {
    if (wasCommon) log.info({}, "pending jobs can be read again");
    else if (problem !== undefined) log.info({ project: path }, "a project's pending jobs can be read again");
  }

  function fail(watch: ProjectWatch, begun: Read, error: unknown): void {
    const failure = readFailure(error);
    const message = describeError(error);
    const before = watch.problem;
    const problem = shared.noteFailure(failure, message) ? message : undefined;
    const limits = failure.isLasting ? lastingBackoff : passingBackoff;
    const waits = { problem, ...limits, atLeastMs: failure.waitMs };
    failRead(watch, begun, waits, { now: clock.now(), random });
    if (ending.signal.aborted) return;
    if (failure.isRateLimit) pace.holdUntil(clock.now() + failure.waitMs);
    noteProblem(watch, before);
    if (failure.isGone && watch.failures >= GONE_AFTER) options.onGone(watch);
  }

  function noteProblem({ path, problem }: ProjectWatch, before: string | undefined): void {
    if (problem === undefined || problem === before) return;
    log.warn({ project: path, problem }, "a project's pending jobs cannot be read");
  }

  return {
    read,
    reading: () => working.size,
    waitUntil: shared.waitUntil,
    problem: shared.problem,
    async stop() {
      ending.abort();
      while (working.size > 0) await Promise.all(working);
    },
  };
}

function tooLong(): Error {
  return new Error(`GitLab's answer took longer than ${READ_LIMIT_MS / 1_000} s`);
}

/** A webhook may take so long: GitLab sends them from a queue. */
const PATIENCE_MS = 10_000;
/** GitLab's clock and ours may differ. */
const SKEW_MS = 5_000;

/** Counts the jobs that were found by looking although a webhook should have told of them. */
export interface MissedJobs {
  /** Whether hooks should have told of this job; `hookedAt`: when one last told of anything in its project. */
  isMissed(job: ApiJob, hookedAt: number): boolean;
  /** These were found and had been missed. Said once for as long as no hook comes. */
  add(project: string, jobs: readonly ApiJob[]): void;
  noteHook(): void;
  count(): number;
}

export function createMissedJobs(deps: {
  readonly clock: Pick<Clock, "now">;
  readonly log: Log;
  readonly expectsHooks: boolean;
}): MissedJobs {
  const { clock, log, expectsHooks } = deps;
  /** What happened while nobody listened was not missed by the hooks. */
  const since = clock.now();
  let count = 0;
  let isSaid = false;
  return {
    isMissed({ createdAt }, hookedAt) {
      const isOld = clock.now() - createdAt > PATIENCE_MS;
      return expectsHooks && isOld && createdAt > since && hookedAt < createdAt - SKEW_MS;
    },
    add(project, jobs) {
      const [first] = jobs;
      if (!first) return;
      count += jobs.length;
      if (!isSaid) log.warn({ project, jobId: first.id }, "a job was found of which no webhook had told");
      isSaid = true;
    },
    noteHook() {
      isSaid = false;
    },
    count: () => count,
  };
}
