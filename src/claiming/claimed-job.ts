/**
 * What becomes of a job that GitLab has given: made durable as a claim, or, where that cannot be, ended in GitLab with a reason in its
 * log. GitLab calls the job running from its answer on and cannot take it back, so one of the two must happen.
 */

import type { Clock } from "../base/clock.ts";
import { pauseUnless } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { backoffMs } from "../base/rates.ts";
import type { Secret } from "../base/secret.ts";
import { HOUR_MS, MINUTE_MS, SECOND_MS } from "../base/units.ts";
import { failureReasonOf } from "../domain/job-end.ts";
import type { Pool } from "../domain/pool.ts";
import type { JobAnswer, JobPayload, RunnerApi } from "../gitlab/runner-api.ts";
import { appendWithRecovery } from "../gitlab/trace.ts";
import type { Claim, JobStore } from "../store/store.ts";

/** How long a claimed job may wait until it can be stored, before it is failed in GitLab. */
const STORE_LIMIT_MS = MINUTE_MS;
const storeBackoff = { baseMs: 200, capMs: 5_000 };
const DEFAULT_TIMEOUT_S = 3_600;
/** By then GitLab has ended the job by itself. */
const LONGEST_TRY_MS = HOUR_MS;
/** What is left when this program is told to end. */
const LAST_TRY_MS = 30 * SECOND_MS;
/** The reason in the trace is worth some tries, but not the job's end. */
const TRACE_TRIES = 3;
const rejectBackoff = { baseMs: 500, capMs: 30_000 };

export interface RejectionDeps {
  readonly api: Pick<RunnerApi, "appendTrace" | "updateJob">;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Log;
  /** Aborts when the program is told to end: then only a short time is left. */
  readonly ending: AbortSignal;
}

interface StoreClaimDeps extends RejectionDeps {
  readonly store: Pick<JobStore, "claim">;
  /** Called with every failed try: nothing more must be claimed until this call returns. */
  readonly onFailure: (problem: string) => void;
}

/**
 * Makes a claimed job durable. While the store refuses it is kept in memory and tried again; when that does not help, or the
 * program has to end, the job is ended in GitLab instead. Returns whether the store has it.
 */
export async function storeClaim(deps: StoreClaimDeps, claim: Claim, jobToken: Secret): Promise<boolean> {
  const { store, clock, log, ending } = deps;
  const { jobId } = claim;
  const giveUpAt = clock.now() + STORE_LIMIT_MS;
  for (let tries = 1; ; tries++) {
    try {
      // False: an earlier try was committed after all.
      if (!(await store.claim(claim))) log.warn({ jobId }, "job is already known");
      return true;
    } catch (error) {
      const problem = describeError(error);
      deps.onFailure(problem);
      log.error({ jobId, err: error }, "claimed job could not be stored");
      if (ending.aborted || clock.now() >= giveUpAt) {
        await rejectJob(deps, { jobId, jobToken, reason: `it could not be stored (${problem})` });
        return false;
      }
    }
    await pauseUnless(clock, backoffMs(tries, deps.random, storeBackoff), ending);
  }
}

export interface ClaimedAnswer {
  readonly payload: JobPayload;
  /** Kept as it is: the guest gets every field, known to us or not. */
  readonly raw: string;
  readonly pollMs: number;
  readonly trace?: Claim["trace"];
}

/** A claim from GitLab's answer. */
export function claimOf(pool: Pool, { payload, raw, pollMs, trace }: ClaimedAnswer): Claim {
  const info = payload.job_info;
  return {
    jobId: payload.id,
    pool: pool.name,
    runner: shortToken(pool.runnerToken),
    name: info.name,
    stage: info.stage ?? "",
    project: info.project_full_path ?? info.project_name ?? "",
    size: pool.size,
    timeoutMs: (payload.runner_info?.timeout ?? DEFAULT_TIMEOUT_S) * SECOND_MS,
    pollMs,
    queuedMs: queuedMsOf(info.time_in_queue_seconds),
    payload: raw,
    ...(trace === undefined ? {} : { trace }),
  };
}

/** GitLab's word, which is no more than that: it may be missing, or of a clock that was set back. */
function queuedMsOf(seconds: number | null | undefined): number | undefined {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds) || seconds < 0) return undefined;
  return Math.round(seconds * SECOND_MS);
}

/** What people know a runner by: the token's prefix and the first characters behind it. */
export function shortToken(token: Secret): string {
  return /^(?:.*?glrtr?-(?:t\d+_)?)?.{4}/.exec(token.reveal())?.[0] ?? "";
}

interface Rejection {
  readonly jobId: number;
  readonly jobToken: Secret;
  /** For the job's trace. */
  readonly reason: string;
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
    const pauseMs = Math.max(waitMs, backoffMs(tries, deps.random, rejectBackoff));
    await pauseUnless(clock, Math.min(pauseMs, limitAt - clock.now()), ending);
  }
}

/** True when GitLab has it, or takes nothing more. */
async function writeReason({ api }: RejectionDeps, rejection: Rejection): Promise<boolean> {
  const { jobId, jobToken, reason } = rejection;
  const bytes = Buffer.from(`FireRunner could not take this job: ${reason}\n`);
  const answer = await appendWithRecovery({ api, jobId, jobToken, startBytes: 0, bytes });
  return answer.kind !== "unavailable";
}

/** Undefined when GitLab has ended the job; otherwise the wait that GitLab asks for before the next try. */
async function reportFailed({ api, log }: RejectionDeps, rejection: Rejection): Promise<number | undefined> {
  const { jobId, jobToken, reason } = rejection;
  const failed = { state: "failed", failureReason: failureReasonOf("never-started") } as const;
  const answer = await api.updateJob({ jobId, jobToken, ...failed });
  if (answer.kind === "again" || answer.kind === "unavailable") return answer.waitMs;
  log.warn({ jobId, reason, status: answer.status }, "job refused and ended in GitLab");
  return undefined;
}

/** Ends a job in GitLab that was given in an answer nobody can read. */
export async function rejectUnusable(
  deps: RejectionDeps,
  pool: Pool,
  answer: JobAnswer & { kind: "unusable" },
): Promise<void> {
  const { jobId, jobToken, problem } = answer;
  const about = { pool: pool.name, jobId, problem };
  if (jobId === undefined || jobToken === undefined) {
    deps.log.error(about, "GitLab gave a job that cannot be read and so cannot be ended");
    return;
  }
  deps.log.error(about, "GitLab gave a job that cannot be used");
  await rejectJob(deps, { jobId, jobToken, reason: problem });
}
