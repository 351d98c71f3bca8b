/** How fast jobs may be looked for: as configured, slower when GitLab's own limit comes near, and not at all when GitLab asks to wait. */
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { createTokenBucket } from "../base/token-bucket.ts";
import { MINUTE_MS } from "../base/units.ts";
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

export interface ApiPaceOptions {
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
