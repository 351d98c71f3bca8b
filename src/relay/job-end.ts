import type { Clock } from "../base/clock.ts";
import type { JobResult } from "../lifecycle/states.ts";
import type { Store } from "../store/store.ts";
import type { Guest } from "./guest.ts";
import { endStatuses, type JobSession } from "./job-session.ts";

/** What a guest told GitLab at the end of its job. */
export interface FinalUpdate {
  readonly state: "success" | "failed";
  readonly failureReason: string | undefined;
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

export function createJobEnd({ store, clock }: { store: Store; clock: Clock }): JobEnd {
  return {
    async heard(guest, session, status) {
      guest.standingAt = clock.now();
      if (status === "canceling") session.isCanceling = true;
      if (isResult(status)) await store.finishJob(session.jobId, status, reasonOf(status));
    },
    async accepted(session, { state, failureReason }, status) {
      const result = resultOf(session, state, status);
      const reason = result === "failed" ? wordsFor(failureReason) : reasonOf(result);
      await store.finishJob(session.jobId, result, reason);
    },
    async over(session, status) {
      const result = isResult(status) ? status : "unknown";
      const reason = result === "unknown" ? "GitLab no longer takes anything for this job" : reasonOf(result);
      await store.finishJob(session.jobId, result, reason);
    },
  };
}

function isResult(status: string | undefined): status is Exclude<JobResult, "unknown"> {
  return status !== undefined && endStatuses.has(status);
}

function resultOf(session: JobSession, state: FinalUpdate["state"], status: string | undefined): JobResult {
  if (isResult(status)) return status;
  return session.isCanceling ? "canceled" : state;
}

function reasonOf(result: JobResult): string | undefined {
  return result === "canceled" ? "canceled in GitLab" : undefined;
}

/** A script that fails speaks for itself; anything else is named. */
function wordsFor(failureReason: string | undefined): string | undefined {
  if (failureReason === undefined || failureReason === "script_failure") return undefined;
  return `the runner reported ${failureReason.replace(/[^\w-]/g, "").slice(0, 60)}`;
}
