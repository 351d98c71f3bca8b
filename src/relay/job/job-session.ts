import { createHash, timingSafeEqual } from "node:crypto";
import { crc32 } from "node:zlib";
import type { Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import { Secret } from "../../base/secret.ts";
import { formatDuration } from "../../base/units.ts";
import type { CacheJob } from "../../cache/rights.ts";
import type { GuestEnd } from "../../domain/events.ts";
import { endByGitLab, isJobResult, type JobEnding, resultOfStatus } from "../../domain/job-end.ts";
import type { JobResult } from "../../domain/states.ts";
import { JobPayload } from "../../gitlab/runner-api.ts";
import type { EventStore, Job, JobStore, MachineStore } from "../../store/store.ts";
import { Refusal } from "../errors.ts";
import type { FinalUpdate, Guest, JobSession } from "../gateway/guest.ts";

export function sessionOf(job: Job, payload: string): JobSession {
  const parsed = JobPayload.parse(JSON.parse(payload));
  const { id, token, dependencies } = parsed;
  const head = Buffer.from(job.traceHead, "utf8");
  return {
    jobId: id,
    token: new Secret(token),
    dependencies: new Map((dependencies ?? []).map((each) => [each.id, new Secret(each.token)])),
    head,
    headCrc: crc32(head),
    tail: undefined,
    headSentBytes: Math.min(job.traceSize, head.length),
    isTokenSeen: job.traceSize > head.length,
    isCanceling: false,
    timeoutMs: job.timeoutMs,
    told: undefined,
    toldAt: undefined,
    uploadOrigin: undefined,
    cache: cacheJobOf(parsed),
    cachedBytes: 0,
  };
}

/** What the job's payload says of its caches; undefined when it has none. */
function cacheJobOf({ job_info, git_info, variables, cache }: JobPayload): CacheJob | undefined {
  const projectId = job_info.project_id ?? undefined;
  if (projectId === undefined || !cache || cache.length === 0) return undefined;
  // GitLab before 18.3 says it in a variable alone. One that the job sets itself comes beside GitLab's own, and cannot make it true.
  const said = (variables ?? []).filter(({ key }) => key === "CI_COMMIT_REF_PROTECTED");
  const isSaid = said.length > 0 && said.every(({ value }) => value === "true");
  return {
    projectId,
    isProtected: git_info?.protected ?? isSaid,
    keys: cache.flatMap(({ key }) => (typeof key === "string" ? [key] : [])),
  };
}

/** The session of a guest whose job is running on this machine; undefined when there is none. */
export async function currentSession(
  store: JobStore & MachineStore,
  guest: Guest,
): Promise<JobSession | undefined> {
  const job = await jobOf(store, guest.machineId);
  if (job?.state !== "running") return undefined;
  return await sessionFor(store, guest, job);
}

/**
 * The session, for a request on behalf of job `jobId` with `token`. Throws Refusal: 403 for another's job or a wrong token, GitLab's own
 * 403 with `Job-Status` when the job has ended, 503 while its end is being reported.
 */
export async function admit(
  store: JobStore & MachineStore,
  guest: Guest,
  { jobId, token }: { jobId: number; token: string | undefined },
): Promise<JobSession> {
  const job = await jobOf(store, guest.machineId);
  if (job === undefined || job.id !== jobId) throw new Refusal(403, "403 Forbidden", { rule: "wrong-job" });
  if (job.state === "finished") throw endedRefusal(job.result ?? undefined);
  if (job.state === "failing") throw new Refusal(503, "this machine is being stopped");
  const session = job.state === "running" ? await sessionFor(store, guest, job) : undefined;
  if (session === undefined || token === undefined || !isSecret(session.token, token)) {
    throw new Refusal(403, "403 Forbidden", { rule: "wrong-token" });
  }
  session.isTokenSeen = true;
  return session;
}

/** As GitLab answers for a job that is over. */
export function endedRefusal(status: string | undefined): Refusal {
  const headers = isJobResult(status) ? { "Job-Status": status } : {};
  return new Refusal(403, "403 Forbidden - Job is not processing on runner", { headers });
}

/** Compares in a time that does not depend on where the two differ. */
export function isSecret(secret: Secret, given: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(secret.reveal()), digest(given));
}

async function jobOf(store: JobStore & MachineStore, machineId: string): Promise<Job | undefined> {
  const machine = await store.machine(machineId);
  const jobId = machine?.jobId ?? undefined;
  const job = jobId === undefined ? undefined : await store.job(jobId);
  return job?.machineId === machineId ? job : undefined;
}

async function sessionFor(
  store: JobStore & MachineStore,
  guest: Guest,
  job: Job,
): Promise<JobSession | undefined> {
  if (guest.session?.jobId === job.id) return guest.session;
  const payload = await store.payload(job.id);
  if (payload === undefined) return undefined;
  // Two requests at once must share one session: what the one learns, the other must know.
  guest.session ??= sessionOf(job, payload);
  return guest.session;
}

/**
 * Watches what GitLab says of a job in its answers to the guest, and makes the end durable before the guest hears of it: the job
 * ends exactly when GitLab has said so.
 */
export interface JobEnd {
  /** GitLab spoke of the job; `status` is its `Job-Status`. */
  heard(guest: Guest, session: JobSession, status: string | undefined): Promise<void>;
  /** GitLab took the final update. */
  accepted(session: JobSession, update: FinalUpdate, status: string | undefined): Promise<void>;
  /** GitLab takes nothing more for this job. */
  over(session: JobSession, status: string | undefined): Promise<void>;
}

export function createJobEnd({ store, clock }: { store: JobStore; clock: Clock }): JobEnd {
  return {
    async heard(guest, session, status) {
      guest.statusAt = clock.now();
      if (status === "canceling") session.isCanceling = true;
      if (isJobResult(status)) await store.finishJob(session.jobId, status, endingOf(session, status));
    },
    async accepted(session, update, status) {
      const result = resultOf(session, update.state, status);
      await store.finishJob(session.jobId, result, endingOf(session, result));
    },
    async over(session, status) {
      const result = resultOfStatus(status);
      await store.finishJob(session.jobId, result, endingOf(session, result));
    },
  };
}

function resultOf(session: JobSession, state: FinalUpdate["state"], status: string | undefined): JobResult {
  if (isJobResult(status)) return status;
  return session.isCanceling ? "canceled" : state;
}

/**
 * Why the job ended so. What its runner told is believed when GitLab has the same result, also when GitLab's answer to it was lost and
 * only a later one says that the job is over.
 */
function endingOf({ told, toldAt, timeoutMs }: JobSession, result: JobResult): JobEnding {
  const ending =
    result === "failed" && told?.state === "failed"
      ? endByRunner(told.failureReason, timeoutMs)
      : endByGitLab(result);
  return toldAt === undefined ? ending : { ...ending, toldAt };
}

/** A script that fails speaks for itself; anything else is named. */
function endByRunner(failureReason: string | undefined, timeoutMs: number): JobEnding {
  switch (failureReason) {
    case undefined:
    case "script_failure":
      return { cause: "script" };
    case "job_execution_timeout": {
      const limit = formatDuration(timeoutMs);
      return {
        cause: "time-limit",
        reason: `the job's time limit of ${limit} was over, and its runner ended it`,
      };
    }
    default: {
      const name = failureReason.replace(/[^\w-]/g, "").slice(0, 60);
      return { cause: "runner", reason: `the runner in its machine reported ${name}` };
    }
  }
}

/** Ends that one guest may tell: who tells more has no end to tell. */
const MOST_ENDS = 4;

/** A guest told of its end. Its event wakes whoever draws conclusions. Never rejects. */
export type RecordEnd = (guest: Guest, end: GuestEnd) => Promise<void>;

export function createEndRecorder({ store, log }: { store: Pick<EventStore, "note">; log: Log }): RecordEnd {
  return async (guest, end) => {
    // A guest may say both in turn, for ever.
    if (guest.end === end || guest.ends >= MOST_ENDS) return;
    guest.end = end;
    guest.ends += 1;
    const { machineId } = guest;
    await store.note("machine:ended", { machineId }, { end }).catch((error: unknown) => {
      log.warn({ machineId, error: describeError(error) }, "event not recorded");
    });
  };
}
