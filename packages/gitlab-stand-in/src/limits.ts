import type { Clock } from "../../../src/base/clock.ts";

const MINUTE_MS = 60_000;

/** Requests per minute. GitLab's defaults. */
export interface RateLimits {
  readonly jobRequestsPerRunner: number;
  readonly updatesPerJob: number;
  readonly tracesPerJob: number;
  readonly artifactsPerJob: number;
  /** REST requests of one user. GitLab.com's limit. */
  readonly apiPerUser: number;
  readonly jobListsPerUser: number;
  /** Test events of one hook. */
  readonly hookTestsPerUser: number;
  /** Events for hooks of one top-level group; those beyond are dropped. */
  readonly hookEventsPerGroup: number;
}

export const gitlabRateLimits: RateLimits = {
  jobRequestsPerRunner: 2_000,
  updatesPerJob: 200,
  tracesPerJob: 200,
  artifactsPerJob: 200,
  apiPerUser: 2_000,
  jobListsPerUser: 600,
  hookTestsPerUser: 5,
  hookEventsPerGroup: Number.POSITIVE_INFINITY,
};

export interface RateLimiter {
  /** Counts one request of `key` in the current minute and returns how many that makes. */
  count(key: string): number;
  /** Counts one; false when that is one too many. */
  allow(key: string, perMinute: number): boolean;
  /** Epoch ms of the end of the current minute. */
  resetsAt(): number;
}

/** Fixed windows of one minute, as GitLab counts. */
export function createRateLimiter(clock: Clock): RateLimiter {
  let window = 0;
  let counts = new Map<string, number>();

  function count(key: string): number {
    const current = Math.floor(clock.now() / MINUTE_MS);
    if (current !== window) {
      window = current;
      counts = new Map();
    }
    const next = (counts.get(key) ?? 0) + 1;
    counts.set(key, next);
    return next;
  }

  return {
    count,
    allow: (key, perMinute) => count(key) <= perMinute,
    resetsAt: () => (Math.floor(clock.now() / MINUTE_MS) + 1) * MINUTE_MS,
  };
}

/** What one user has asked of the REST API in the current minute. */
interface Budget {
  used: number;
  /** Epoch ms. */
  readonly resetsAt: number;
  firstRefusedAt: number | undefined;
}

export interface Budgets {
  of(userId: number): Budget;
  /** Counts one request. */
  take(userId: number): Budget;
}

export function createBudgets(clock: Clock): Budgets {
  const all = new Map<number, Budget>();

  function of(userId: number): Budget {
    const known = all.get(userId);
    if (known && known.resetsAt > clock.now()) return known;
    const resetsAt = (Math.floor(clock.now() / MINUTE_MS) + 1) * MINUTE_MS;
    const budget = { used: 0, resetsAt, firstRefusedAt: undefined };
    all.set(userId, budget);
    return budget;
  }

  return {
    of,
    take(userId) {
      const budget = of(userId);
      budget.used++;
      return budget;
    },
  };
}
