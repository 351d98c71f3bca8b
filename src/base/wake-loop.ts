import type { Clock } from "./clock.ts";
import { pauseUnless } from "./clock.ts";

/** Looks, rests until the time that the look named or until woken, and looks again. Never two looks at once. */
export interface WakeLoop {
  start(): void;
  wake(): void;
  /** No look begins after this; resolves when the last one has ended. */
  stop(): Promise<void>;
}

/** `look` must not throw; it answers when to look again at the latest (epoch ms). */
export function createWakeLoop(clock: Clock, look: () => Promise<number>): WakeLoop {
  let running = Promise.resolve();
  let stopped = false;
  let woken = false;
  let rest = new AbortController();

  async function loop(): Promise<void> {
    while (!stopped) {
      woken = false;
      rest = new AbortController();
      const untilAt = await look();
      if (!woken) await pauseUnless(clock, Math.max(1, untilAt - clock.now()), rest.signal);
    }
  }

  function wake(): void {
    woken = true;
    // A burst wakes hundreds of times, and an abort without a reason makes an error with its stack.
    if (!rest.signal.aborted) rest.abort("woken");
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
