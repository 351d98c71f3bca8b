/** Loops that sleep until something is due or somebody wakes them: `createWaker` for a loop of one's own, `createWakeLoop` for a whole one. */
import { type Clock, pauseUnless } from "./clock.ts";

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
        // A burst wakes hundreds of times, and an abort without a reason makes an error with its stack.
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

/** Polls, sleeps until the time that the poll named or until woken, and polls again. Never two polls at once. */
export interface WakeLoop {
  start(): void;
  wake(): void;
  /** No poll begins after this; resolves when the last one has ended. */
  stop(): Promise<void>;
}

/** `poll` must not throw; it returns when to poll again at the latest (epoch ms). Wakes from before a poll need no other one. */
export function createWakeLoop(clock: Clock, poll: () => Promise<number>): WakeLoop {
  let running = Promise.resolve();
  let stopped = false;
  let woken = false;
  let sleep = new AbortController();

  async function loop(): Promise<void> {
    while (!stopped) {
      woken = false;
      sleep = new AbortController();
      const untilAt = await poll();
      if (!woken) await pauseUnless(clock, Math.max(1, untilAt - clock.now()), sleep.signal);
    }
  }

  function wake(): void {
    woken = true;
    if (!sleep.signal.aborted) sleep.abort("woken");
  }

  return {
    start() {
      running = loop();
    },
    wake,
    async stop() {
      stopped = true;
      wake();
      await running;
    },
  };
}
