import type { Clock } from "./clock.ts";

interface Sleeper {
  readonly at: number;
  readonly wake: () => void;
}

export interface ManualClock extends Clock {
  /** Moves time forward, waking sleepers in order of their deadlines and letting their work settle in between. */
  advance(ms: number): Promise<void>;
  /** The earliest deadline anybody sleeps for, or undefined when nobody sleeps. */
  nextWake(): number | undefined;
}

/** A clock that moves only when told to. For tests and the simulation. */
export function createManualClock(startAt = 1_700_000_000_000): ManualClock {
  let now = startAt;
  let sleepers: Sleeper[] = [];

  function sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const sleeper = { at: now + ms, wake: resolve };
      sleepers.push(sleeper);
      signal?.addEventListener("abort", () => {
        sleepers = sleepers.filter((other) => other !== sleeper);
        reject(signal.reason);
      });
    });
  }

  function earliest(): Sleeper | undefined {
    return sleepers.toSorted((a, b) => a.at - b.at)[0];
  }

  async function advance(ms: number): Promise<void> {
    const until = now + ms;
    // What is already under way may be about to sleep.
    await settle();
    for (let next = earliest(); next && next.at <= until; next = earliest()) {
      now = Math.max(now, next.at);
      sleepers = sleepers.filter((other) => other !== next);
      next.wake();
      await settle();
    }
    now = until;
    await settle();
  }

  return { now: () => now, sleep, advance, nextWake: () => earliest()?.at };
}

/** Lets everything that is ready to run, run: promise jobs and I/O callbacks of the current turn. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}
