import { backoffMs } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { pauseUnless } from "../base/pause.ts";
import type { Secret } from "../base/secret.ts";
import { failureReasonOf } from "../domain/job-end.ts";
import type { RunnerApi } from "../gitlab/runner-api.ts";
import { appendWithRecovery } from "../gitlab/trace.ts";

/** By then GitLab has ended the job by itself. */
const LONGEST_TRY_MS = 3_600_000;
/** What is left when this program is told to end. */
const LAST_TRY_MS = 30_000;
/** The reason in the trace is worth some tries, but not the job's end. */
const TRACE_TRIES = 3;
const backoff = { baseMs: 500, capMs: 30_000 };

export interface Rejection {
  readonly jobId: number;
  readonly jobToken: Secret;
  /** For the job's trace, in words. */
  readonly reason: string;
}

export interface RejectionDeps {
  readonly api: Pick<RunnerApi, "appendTrace" | "updateJob">;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
  /** Aborts when the program is told to end: then only a short time is left. */
  readonly ending: AbortSignal;
}

/**
 * Ends a job in GitLab that could not be taken over and has no row in the store: a line in its trace, then failed as
 * `runner_system_failure`, repeated until GitLab has answered. False when it never did.
 */
export async function rejectJob(deps: RejectionDeps, rejection: Rejection): Promise<boolean> {
  const { clock, log, ending } = deps;
  const { jobId, reason } = rejection;
  const giveUpAt = clock.now() + LONGEST_TRY_MS;
  let endingSince: number | undefined;
  let traced = false;
  for (let tries = 1; ; tries++) {
    traced ||= (await writeReason(deps, rejection)) || tries >= TRACE_TRIES;
    const waitMs = traced ? await reportFailed(deps, rejection) : 0;
    if (waitMs === undefined) return true;
    if (ending.aborted) endingSince ??= clock.now();
    const limitAt = endingSince === undefined ? giveUpAt : endingSince + LAST_TRY_MS;
    if (clock.now() >= limitAt) {
      log.error({ jobId, reason }, "job could not be ended in GitLab; GitLab does so after an hour");
      return false;
    }
    const pauseMs = Math.max(waitMs, backoffMs(tries, deps.random, backoff));
    await pauseUnless(clock, Math.min(pauseMs, limitAt - clock.now()), ending);
  }
}

/** True when GitLab has it, or takes nothing more. */
async function writeReason({ api }: RejectionDeps, rejection: Rejection): Promise<boolean> {
  const { jobId, jobToken, reason } = rejection;
  const bytes = Buffer.from(`FireRunner could not take this job: ${reason}\n`);
  const standing = await appendWithRecovery({ api, jobId, jobToken, startBytes: 0, bytes });
  return standing.kind !== "unavailable";
}

/** Undefined when GitLab has ended the job; otherwise the wait that GitLab asks for before the next try. */
async function reportFailed({ api, log }: RejectionDeps, rejection: Rejection): Promise<number | undefined> {
  const { jobId, jobToken, reason } = rejection;
  const failed = { state: "failed", failureReason: failureReasonOf("never-started") } as const;
  const standing = await api.updateJob({ jobId, jobToken, ...failed });
  if (standing.kind === "again" || standing.kind === "unavailable") return standing.waitMs;
  log.warn({ jobId, reason, status: standing.status }, "job refused and ended in GitLab");
  return undefined;
}
