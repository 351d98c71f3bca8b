import type { Clock } from "../../base/clock.ts";

const MINUTE_MS = 60_000;
/** Clients remembered at one time; the one that was silent for longest is forgotten first. */
const MOST_CLIENTS = 10_000;

interface Bucket {
  readonly tokens: number;
  readonly filledAt: number;
}

/**
 * Counts the requests that prove nothing, per client. It is our own and not a plugin's because one count serves all listeners, and
 * broken requests that never become one of Fastify's as well, and because its size follows the configuration while running.
 */
export interface UnprovenLimit {
  /** Counts one request. Answers 0, or in how many seconds the next would be within the limit. */
  take(key: string): number;
}

/** A bucket for each key: `perMinute` at once, filled up evenly within a minute. */
export function createUnprovenLimit(clock: Pick<Clock, "now">, perMinute: () => number): UnprovenLimit {
  const buckets = new Map<string, Bucket>();

  function fill(key: string, limit: number): number {
    const bucket = buckets.get(key);
    if (bucket === undefined) return limit;
    // A clock that was set back must not take anything away.
    const passedMs = Math.max(0, clock.now() - bucket.filledAt);
    return Math.min(limit, bucket.tokens + (passedMs * limit) / MINUTE_MS);
  }

  return {
    take(key) {
      const limit = perMinute();
      const tokens = fill(key, limit);
      const isWithin = tokens >= 1;
      // Deleted first, so that the map stays in the order of use.
      buckets.delete(key);
      buckets.set(key, { tokens: isWithin ? tokens - 1 : tokens, filledAt: clock.now() });
      if (buckets.size > MOST_CLIENTS) buckets.delete(buckets.keys().next().value ?? "");
      return isWithin ? 0 : Math.ceil(((1 - tokens) * 60) / limit);
    },
  };
}
