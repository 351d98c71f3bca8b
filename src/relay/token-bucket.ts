import type { Clock } from "../base/clock.ts";

/** Allows `perMs` events a millisecond on average and `burst` at once. */
export interface TokenBucket {
  /** Takes one and answers true, or answers false. */
  tryTake(): boolean;
  /** Takes many at once, whether they are there or not: they are missing until time has brought them. */
  spend(count: number): void;
  /** Gives back one that was taken and not used. */
  putBack(): void;
  /** Takes one, waiting for its turn if need be. Rejects when `signal` aborts, and takes none then. */
  take(signal?: AbortSignal): Promise<void>;
}

export function createTokenBucket(clock: Clock, perMs: number, burst: number): TokenBucket {
  let tokens = burst;
  let filledAt = clock.now();

  function fill(): void {
    const now = clock.now();
    // A clock that was set back must not take tokens away.
    tokens = Math.min(burst, tokens + Math.max(0, now - filledAt) * perMs);
    filledAt = now;
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
      fill();
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
  };
}
