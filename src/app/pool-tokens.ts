/**
 * Whether GitLab knows the runner tokens of the configured pools. It is asked at the start, until it does, and again when it refuses a request
 * with one. Claiming goes on trying meanwhile, since somebody may put it right.
 */
import type { Clock } from "../base/clock.ts";
import { FireRunnerError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { Secret } from "../base/secret.ts";
import type { Pool } from "../domain/pool.ts";
import type { RunnerApi, RunnerInfo } from "../gitlab/runner-api.ts";
import { wentWrong } from "../operations/doctor/findings.ts";

/** What passes by itself, such as a GitLab that is away. */
const AGAIN_MS = 10_000;
/** What somebody has to change; a new configuration is looked at once. */
const AGAIN_IF_FATAL_MS = 120_000;

interface TokenProblem {
  readonly problem: string;
  readonly hint: string | undefined;
}

export interface PoolTokens {
  /** Asks about every token that is new, or not known to be good. */
  verifyNew(): void;
  /** GitLab has refused a request with this pool's token. Pools that are not of the configuration are no matter of ours. */
  requestRecheck(pool: string): void;
  /** Why the token could not be verified, in doctor's words; undefined while nothing speaks against it. */
  problem(pool: string): TokenProblem | undefined;
  stop(): void;
}

export interface PoolTokensOptions {
  readonly api: Pick<RunnerApi, "verify">;
  readonly pools: () => ReadonlyMap<string, Pool>;
  /** What the runner in an image says about itself; undefined while the image is not ready. */
  readonly runnerInfo: (pool: Pool) => Promise<RunnerInfo | undefined>;
  readonly clock: Pick<Clock, "sleep">;
  readonly log: Log;
}

interface Watch {
  readonly token: Secret;
  readonly ending: AbortController;
  isAsking: boolean;
  problem: TokenProblem | undefined;
}

export function createPoolTokens(options: PoolTokensOptions): PoolTokens {
  const { api, clock, log } = options;
  const watches = new Map<string, Watch>();

  function begin(pool: Pool): void {
    const before = watches.get(pool.name);
    before?.ending.abort();
    const isSame = before?.token.reveal() === pool.runnerToken.reveal();
    const problem = isSame ? before?.problem : undefined;
    const watch = { token: pool.runnerToken, ending: new AbortController(), isAsking: true, problem };
    watches.set(pool.name, watch);
    void untilKnown(pool, watch).finally(() => {
      watch.isAsking = false;
    });
  }

  async function untilKnown(pool: Pool, watch: Watch): Promise<void> {
    const { signal } = watch.ending;
    const info = await options.runnerInfo(pool);
    while (!signal.aborted) {
      const error = await refusal(pool, info, signal);
      if (signal.aborted) return;
      note(pool, watch, error);
      if (error === undefined) return;
      const isPassing = error instanceof FireRunnerError && error.retryable;
      await clock.sleep(isPassing ? AGAIN_MS : AGAIN_IF_FATAL_MS, signal).catch(() => {});
    }
  }

  /** What GitLab, or the way to it, has against the token; undefined when GitLab knows it. */
  async function refusal(
    { name, runnerToken }: Pool,
    info: RunnerInfo | undefined,
    signal: AbortSignal,
  ): Promise<unknown> {
    try {
      const { id } = await api.verify(runnerToken, signal, info);
      log.info({ pool: name, runner: id }, "runner token is valid");
      return undefined;
    } catch (error) {
      return error;
    }
  }

  function note({ name }: Pool, watch: Watch, error: unknown): void {
    const found = error === undefined ? undefined : wentWrong(error);
    const problem = found && { problem: found.message, hint: found.hint };
    if (problem && watch.problem?.problem !== problem.problem)
      log.warn({ pool: name, ...problem }, "runner token could not be verified");
    watch.problem = problem;
  }

  return {
    verifyNew() {
      const pools = options.pools();
      for (const [name, { ending }] of watches) {
        if (pools.has(name)) continue;
        ending.abort();
        watches.delete(name);
      }
      for (const pool of pools.values()) {
        const watch = watches.get(pool.name);
        const isGood = watch && !watch.isAsking && watch.token.reveal() === pool.runnerToken.reveal();
        if (!isGood) begin(pool);
      }
    },
    requestRecheck(name) {
      const pool = options.pools().get(name);
      if (pool && !watches.get(name)?.isAsking) begin(pool);
    },
    problem: (name) => watches.get(name)?.problem,
    stop() {
      for (const { ending } of watches.values()) ending.abort();
    },
  };
}
