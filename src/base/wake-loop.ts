/** Loops that sleep until something is due or somebody wakes them: `createWaker` for a loop of one's own, `createWakeLoop` for a whole one. */
import type { Clock } from "./clock.ts";

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

/** `poll` must not throw; it returns when to poll again at the latest (epoch ms). Wakes from before the start need no other poll. */
export function createWakeLoop(clock: Clock, poll: () => Promise<number>): WakeLoop {
  const stopping = new AbortController();
  let waker = createWaker(clock);
  let running = Promise.resolve();

  async function loop(): Promise<void> {
    while (!stopping.signal.aborted) {
      const untilAt = await poll();
      await waker.next(Math.max(1, untilAt - clock.now()), stopping.signal);
    }
  }

  return {
    start() {
      waker = createWaker(clock);
      running = loop();
    },
    wake: () => waker.wake("woken"),
    async stop() {
      stopping.abort("stopped");
      await running;
    },
  };
}
