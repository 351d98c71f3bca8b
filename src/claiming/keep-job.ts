import { backoffMs } from "../base/backoff.ts";
import { describeError } from "../base/errors.ts";
import { pauseUnless } from "../base/pause.ts";
import type { Secret } from "../base/secret.ts";
import type { Pool } from "../domain/pool.ts";
import type { JobPayload } from "../gitlab/payload.ts";
import type { Claim, Store } from "../store/store.ts";
import { type RejectionDeps, rejectJob } from "./reject-job.ts";

/** How long a claimed job may wait for room in the store before it is failed in GitLab. */
const KEEP_LIMIT_MS = 60_000;
const backoff = { baseMs: 200, capMs: 5_000 };
const DEFAULT_TIMEOUT_S = 3_600;

export interface KeepDeps extends RejectionDeps {
  readonly store: Pick<Store, "claim">;
  /** Called with every failed try: nothing more must be claimed until this call returns. */
  readonly onTrouble: (problem: string) => void;
}

/**
 * Makes a claimed job durable. While the store refuses it is kept in memory and tried again; when that does not help, or the
 * program has to end, the job is ended in GitLab instead. Answers whether the store has it.
 */
export async function keepJob(deps: KeepDeps, claim: Claim, jobToken: Secret): Promise<boolean> {
  const { store, clock, log, ending } = deps;
  const { jobId } = claim;
  const giveUpAt = clock.now() + KEEP_LIMIT_MS;
  for (let tries = 1; ; tries++) {
    try {
      // False: an earlier try was committed after all.
      if (!(await store.claim(claim))) log.warn({ jobId }, "job is already known");
      return true;
    } catch (error) {
      const problem = describeError(error);
      deps.onTrouble(problem);
      log.error({ jobId, err: error }, "claimed job could not be stored");
      if (ending.aborted || clock.now() >= giveUpAt) {
        await rejectJob(deps, { jobId, jobToken, reason: `it could not be stored (${problem})` });
        return false;
      }
    }
    await pauseUnless(clock, backoffMs(tries, deps.random, backoff), ending);
  }
}

/** A claim from GitLab's answer. `raw` is kept as it is: the guest gets every field, known to us or not. */
export function claimOf(pool: Pool, payload: JobPayload, raw: string, pollMs: number): Claim {
  const info = payload.job_info;
  return {
    jobId: payload.id,
    pool: pool.name,
    runner: shortToken(pool.runnerToken),
    name: info.name,
    stage: info.stage ?? "",
    project: info.project_full_path ?? info.project_name ?? "",
    size: pool.size,
    timeoutMs: (payload.runner_info?.timeout ?? DEFAULT_TIMEOUT_S) * 1_000,
    pollMs,
    payload: raw,
  };
}

/** What people know a runner by: the token's prefix and the first characters behind it. */
export function shortToken(token: Secret): string {
  return /^(?:.*?glrtr?-(?:t\d+_)?)?.{4}/.exec(token.reveal())?.[0] ?? "";
}
