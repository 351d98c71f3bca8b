/** How often something may happen, for one and for each of many clients, and how long to wait after failures. */
import type { Clock } from "./clock.ts";
import { MINUTE_MS } from "./units.ts";

/** Allows `perMs` events a millisecond on average and `burst` at once. */
export interface TokenBucket {
  /** Takes one and returns true, or returns false. */
  tryTake(): boolean;
  /** Takes many at once, whether they are there or not: they are missing until time has brought them. */
  spend(count: number): void;
  /** Gives back one that was taken and not used. */
  putBack(): void;
  /** Takes one, waiting for its turn if need be. Rejects when `signal` aborts, and takes none then. */
  take(signal?: AbortSignal): Promise<void>;
  /** In how many milliseconds `count` are there, if nobody takes one meanwhile. */
  waitMs(count: number): number;
}

/** A rate that is a function is asked for at each use: it holds for the time since the use before. */
export function createTokenBucket(clock: Clock, rate: number | (() => number), burst: number): TokenBucket {
  let tokens = burst;
  let filledAt = clock.now();

  /** Returns the rate. */
  function fill(): number {
    const now = clock.now();
    const perMs = typeof rate === "number" ? rate : rate();
    tokens = filled(tokens, now - filledAt, perMs, burst);
    filledAt = now;
    return perMs;
  }

  return {
    tryTake() {
      fill();
      if (tokens < 1) return false;
      tokens -= 1;
      return true;
    },
    spend(count) {
      fill();
      tokens -= count;
    },
    putBack() {
      tokens = Math.min(burst, tokens + 1);
    },
    async take(signal) {
      const perMs = fill();
      // Taken on credit, so that those who wait are served in the order in which they came.
      tokens -= 1;
      if (tokens >= 0) return;
      try {
        await clock.sleep(Math.ceil(-tokens / perMs), signal);
      } catch (error) {
        tokens = Math.min(burst, tokens + 1);
        throw error;
      }
    },
    waitMs(count) {
      const perMs = fill();
      return Math.ceil(Math.max(0, count - tokens) / perMs);
    },
  };
}

/** Counts what many clients do, a bucket for each; its size may change while in use. */
export interface KeyedRateLimit {
  /** Takes one of the key's and returns 0, or returns in how many seconds the next is there. */
  take(key: string): number;
}

/** Keys remembered at one time; the one that was silent for longest is forgotten first. */
const MOST_KEYS = 10_000;

/** `perMinute` at once for each key, filled up evenly within a minute. */
export function createKeyedRateLimit(clock: Pick<Clock, "now">, perMinute: () => number): KeyedRateLimit {
  const buckets = new Map<string, { readonly tokens: number; readonly filledAt: number }>();
  return {
    take(key) {
      const limit = perMinute();
      const { tokens: left, filledAt } = buckets.get(key) ?? { tokens: limit, filledAt: clock.now() };
      const tokens = filled(left, clock.now() - filledAt, limit / MINUTE_MS, limit);
      const isWithin = tokens >= 1;
      // Deleted first, so that the map stays in the order of use.
      buckets.delete(key);
      buckets.set(key, { tokens: isWithin ? tokens - 1 : tokens, filledAt: clock.now() });
      if (buckets.size > MOST_KEYS) buckets.delete(buckets.keys().next().value ?? "");
      return isWithin ? 0 : Math.ceil(((1 - tokens) * 60) / limit);
    },
  };
}

/** A clock that was set back must not take tokens away. */
function filled(tokens: number, passedMs: number, perMs: number, burst: number): number {
  return Math.min(burst, tokens + Math.max(0, passedMs) * perMs);
}

export interface BackoffLimits {
  readonly baseMs: number;
  readonly capMs: number;
}

/**
 * How long to wait after `failures` failures in a row (1 for the first): doubling from the base up to the cap, of which the
 * upper half is random, so that many waiters do not come back together. `random` gives [0, 1).
 */
export function backoffMs(failures: number, random: () => number, limits: BackoffLimits): number {
  const doublings = Math.min(Math.max(failures - 1, 0), 50);
  const fullMs = Math.min(limits.capMs, limits.baseMs * 2 ** doublings);
  return Math.round(fullMs / 2 + (random() * fullMs) / 2);
}
