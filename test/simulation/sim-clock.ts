import type { Clock } from "../../src/base/clock.ts";

export interface SimClock extends Clock {
  /** Lets time pass until `isDone`, jumping from one sleeper to the next. False when `limitMs` went by first. */
  runUntil(isDone: () => boolean, limitMs: number): Promise<boolean>;
}

interface Sleeper {
  readonly at: number;
  readonly order: number;
  readonly wake: () => void;
}

/** Time that passes only when everything that can happen now has happened. Sleepers of one moment wake in order. */
export function createSimClock(startAt = 1_700_000_000_000): SimClock {
  let now = startAt;
  let order = 0;
  const sleepers = new Set<Sleeper>();

  function sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const giveUp = () => {
        sleepers.delete(sleeper);
        reject(signal?.reason);
      };
      const wake = () => {
        signal?.removeEventListener("abort", giveUp);
        resolve();
      };
      // As of real timers, in whole milliseconds.
      const sleeper = { at: now + Math.ceil(Math.max(0, ms)), order: order++, wake };
      sleepers.add(sleeper);
      signal?.addEventListener("abort", giveUp, { once: true });
    });
  }

  function earliest(): Sleeper | undefined {
    let first: Sleeper | undefined;
    for (const each of sleepers)
      if (!first || each.at < first.at || (each.at === first.at && each.order < first.order)) first = each;
    return first;
  }

  async function runUntil(isDone: () => boolean, limitMs: number): Promise<boolean> {
    const until = now + limitMs;
    for (;;) {
      await everythingElse();
      if (isDone()) return true;
      const next = earliest();
      if (!next || next.at > until) return false;
      now = next.at;
      sleepers.delete(next);
      next.wake();
    }
  }

  return { now: () => now, sleep, runUntil };
}

/**
 * Resolves when nothing is left to be done at this moment. Work that lets others go first, as the store's queue of changes does, waits
 * for turns of the event loop and not for time: as many turns as it takes go by.
 */
async function everythingElse(): Promise<void> {
  do await new Promise((resolve) => setImmediate(resolve));
  while (process.getActiveResourcesInfo().includes("Immediate"));
}
