import type { Clock } from "../base/clock.ts";

/** Any number of wakes before the next round are one. */
export interface Waker {
  wake(reason: string): void;
  /** The reason of the first wake since the last call, or `tick` after `tickMs`, or `stop` when the signal aborts. */
  next(tickMs: number, signal: AbortSignal): Promise<string>;
}

export function createWaker(clock: Clock): Waker {
  let pending: string | undefined;
  let notify: (() => void) | undefined;

  return {
    wake(reason) {
      pending ??= reason;
      notify?.();
    },
    async next(tickMs, signal) {
      if (pending === undefined && !signal.aborted) {
        const timer = new AbortController();
        const follow = () => timer.abort("woken");
        signal.addEventListener("abort", follow);
        notify = follow;
        await clock.sleep(tickMs, timer.signal).catch(() => {});
        notify = undefined;
        signal.removeEventListener("abort", follow);
      }
      const reason = pending ?? (signal.aborted ? "stop" : "tick");
      pending = undefined;
      return reason;
    },
  };
}
