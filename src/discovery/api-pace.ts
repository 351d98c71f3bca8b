/**
 * How GitLab's API is asked: as fast as configured, more slowly when GitLab's own limit comes near, not at all when GitLab asks to wait; and
 * what a failed read means for the next ones: something about the project alone, or about all of them.
 */
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { backoffMs, createTokenBucket } from "../base/rates.ts";
import { MINUTE_MS } from "../base/units.ts";
import { GitLabError } from "../gitlab/errors.ts";
import type { RateBudget } from "../gitlab/rest-api.ts";

/** What may be sent at once after a quiet time, in time of the pace. */
const BURST_MS = 2_000;
/** So that half of it is more than the one request that is urgent. */
const LEAST_BURST = 4;
/** With less than this share of GitLab's limit left, requests come more slowly: others use the same token or user. */
const SCARCE = 0.25;
/** Slower than this nothing is found any more. */
const SLOWEST = 0.1;

export interface ApiPace {
  /** When the next request may be sent (epoch ms); one that nobody waits for leaves room for others. */
  readyAt(isUrgent: boolean): number;
  spend(requests?: number): void;
  /** GitLab asks everybody to wait. */
  holdUntil(at: number): void;
  /** Why it is slower than configured. */
  problem(): string | undefined;
}

interface ApiPaceOptions {
  readonly clock: Clock;
  readonly log: Log;
  readonly requestsPerMinute: number;
  readonly budget: () => RateBudget | undefined;
}

export function createApiPace(options: ApiPaceOptions): ApiPace {
  const { clock, log, requestsPerMinute } = options;
  const fullPerMs = requestsPerMinute / MINUTE_MS;
  const burst = Math.max(LEAST_BURST, fullPerMs * BURST_MS);
  const bucket = createTokenBucket(clock, perMs, burst);
  let heldUntil = 0;
  let isSlow = false;

  function perMs(): number {
    const share = shareLeft(options.budget(), clock.now());
    noteSlowness(share < SCARCE);
    return fullPerMs * Math.max(SLOWEST, Math.min(1, share / SCARCE));
  }

  function noteSlowness(slow: boolean): void {
    if (slow === isSlow) return;
    isSlow = slow;
    const { limit, remaining } = options.budget() ?? {};
    if (slow)
      log.warn(
        { limit, remaining },
        "GitLab's rate limit is nearly used up: jobs are looked for more slowly",
      );
    else log.info({ limit, remaining }, "jobs are looked for at the usual pace again");
  }

  return {
    readyAt(isUrgent) {
      const wanted = isUrgent ? 1 : Math.max(1, burst / 2);
      return Math.max(heldUntil, clock.now() + bucket.waitMs(wanted));
    },
    spend: (requests = 1) => bucket.spend(requests),
    holdUntil(at) {
      heldUntil = Math.max(heldUntil, at);
    },
    problem() {
      const now = clock.now();
      const budget = options.budget();
      if (heldUntil > now) return `GitLab asks to wait until ${new Date(heldUntil).toISOString()}`;
      if (!budget || shareLeft(budget, now) >= SCARCE) return undefined;
      return `only ${budget.remaining} of ${budget.limit} requests of GitLab's rate limit are left until ${new Date(budget.resetsAt).toISOString()}: jobs are looked for more slowly`;
    },
  };
}

/** A limit that has been reset since is whole again. */
function shareLeft(budget: RateBudget | undefined, now: number): number {
  if (!budget || budget.resetsAt <= now || budget.limit <= 0) return 1;
  return Math.max(0, budget.remaining) / budget.limit;
}

/** What a failed request to GitLab's API says about the next ones. */
interface ReadFailure {
  /** The project is gone or hidden: others can be read. */
  readonly isOfProject: boolean;
  /** It is not there (or no longer visible to this token), rather than forbidden. */
  readonly isGone: boolean;
  /** GitLab asks everybody to wait. */
  readonly isRateLimit: boolean;
  /** It does not pass by itself: the token, a role, the address, the certificate. */
  readonly isLasting: boolean;
  /** What GitLab asks to wait; 0 for nothing. */
  readonly waitMs: number;
}

const aboutProject: readonly string[] = ["gitlab_not_found", "gitlab_forbidden", "gitlab_refused"];

export function readFailure(error: unknown): ReadFailure {
  const known = error instanceof GitLabError ? error : undefined;
  const isOfProject = known !== undefined && aboutProject.includes(known.code);
  return {
    isOfProject,
    isGone: known?.code === "gitlab_not_found",
    isRateLimit: known?.code === "gitlab_rate_limited",
    isLasting: known !== undefined && !known.retryable,
    waitMs: known?.waitMs ?? 0,
  };
}

const sharedPassingBackoff = { baseMs: 500, capMs: 30_000 };
/** Until somebody changes something. */
const sharedLastingBackoff = { baseMs: 500, capMs: 120_000 };

/** Tells a sick project from a sick GitLab: that is one which failed twice in a row, whatever project it was asked for. */
interface SharedReadFailures {
  /** Something could be read. Returns whether this ends a failure of all reads. */
  noteSuccess(): boolean;
  /** Returns whether it is the project's own. */
  noteFailure(failure: ReadFailure, message: string): boolean;
  /** Nothing is to be read before (epoch ms). */
  waitUntil(): number;
  /** Why nothing can be read. */
  problem(): string | undefined;
}

export function createSharedReadFailures(deps: {
  readonly clock: Pick<Clock, "now">;
  readonly random: () => number;
  readonly log: Log;
}): SharedReadFailures {
  const { clock, random, log } = deps;
  let failures = 0;
  let waitUntil = 0;
  let problem: string | undefined;
  return {
    noteSuccess() {
      const wasCommon = problem !== undefined;
      failures = 0;
      waitUntil = 0;
      problem = undefined;
      return wasCommon;
    },
    noteFailure(failure, message) {
      if (failure.isOfProject) return true;
      // Reads that were under way together fail together: that is one failure.
      if (waitUntil <= clock.now()) failures++;
      waitUntil =
        clock.now() +
        backoffMs(failures, random, failure.isLasting ? sharedLastingBackoff : sharedPassingBackoff);
      if (failures < 2) return true;
      if (problem === undefined) log.warn({ problem: message }, "pending jobs cannot be read");
      problem = message;
      return false;
    },
    waitUntil: () => waitUntil,
    problem: () => problem,
  };
}
