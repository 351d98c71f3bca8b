import { type Clock, pauseUnless } from "./clock.ts";

/** Polls, sleeps until the time that the poll named or until woken, and polls again. Never two polls at once. */
export interface WakeLoop {
  start(): void;
  wake(): void;
  /** No poll begins after this; resolves when the last one has ended. */
  stop(): Promise<void>;
}

/** `poll` must not throw; it returns when to poll again at the latest (epoch ms). */
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
    // A burst wakes hundreds of times, and an abort without a reason makes an error with its stack.
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
