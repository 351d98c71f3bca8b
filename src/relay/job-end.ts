import type { Clock } from "../base/clock.ts";
import { isJobResult, reasonOfResult, resultOfStatus } from "../lifecycle/job-end.ts";
import type { JobResult } from "../lifecycle/states.ts";
import type { Store } from "../store/store.ts";
import type { Guest } from "./guest.ts";
import type { JobSession } from "./job-session.ts";

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
      if (isJobResult(status)) await store.finishJob(session.jobId, status, reasonOfResult(status));
    },
    async accepted(session, { state, failureReason }, status) {
      const result = resultOf(session, state, status);
      const reason = result === "failed" ? wordsFor(failureReason) : reasonOfResult(result);
      await store.finishJob(session.jobId, result, reason);
    },
    async over(session, status) {
      const result = resultOfStatus(status);
      await store.finishJob(session.jobId, result, reasonOfResult(result));
    },
  };
}

function resultOf(session: JobSession, state: FinalUpdate["state"], status: string | undefined): JobResult {
  if (isJobResult(status)) return status;
  return session.isCanceling ? "canceled" : state;
}

/** A script that fails speaks for itself; anything else is named. */
function wordsFor(failureReason: string | undefined): string | undefined {
  if (failureReason === undefined || failureReason === "script_failure") return undefined;
  return `the runner reported ${failureReason.replace(/[^\w-]/g, "").slice(0, 60)}`;
}
