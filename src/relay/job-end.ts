import type { Clock } from "../base/clock.ts";
import { formatDuration } from "../base/units.ts";
import { endByGitLab, isJobResult, type JobEnding, resultOfStatus } from "../domain/job-end.ts";
import type { JobResult } from "../domain/states.ts";
import type { JobStore } from "../store/store.ts";
import type { Guest } from "./guest.ts";
import type { FinalUpdate, JobSession } from "./job-session.ts";

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
      guest.standingAt = clock.now();
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
function endingOf({ told, timeoutMs }: JobSession, result: JobResult): JobEnding {
  return result === "failed" && told?.state === "failed"
    ? endByRunner(told.failureReason, timeoutMs)
    : endByGitLab(result);
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
