/** Time as an argument, so that no test sleeps and the simulation owns it. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /**
   * Resolves after `ms`, or rejects with the signal's reason as soon as it aborts. The program goes on running for it, unless it is
   * `in the background`.
   */
  sleep(ms: number, signal?: AbortSignal, how?: "in the background"): Promise<void>;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  // Most deadlines are called off: Node's own way makes an exception, with its stack, for each.
  sleep: (ms, signal, how) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const stop = () => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener("abort", stop);
        resolve();
      }, ms);
      if (how !== undefined) timer.unref();
      signal?.addEventListener("abort", stop, { once: true });
    }),
};

/** Waits for `ms`, or until the signal aborts; a signal that has aborted before cuts nothing short. */
export async function pauseUnless(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return await clock.sleep(ms);
  try {
    await clock.sleep(ms, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

/** Calls `work` once, after `ms`, in the background. Returns what calls it off. `work` must not throw. */
export function after(clock: Clock, ms: number, work: () => void): () => void {
  const over = new AbortController();
  clock.sleep(ms, over.signal, "in the background").then(work, () => {});
  return () => over.abort("called off");
}

/** Calls `work` again and again, each time after `ms`, in the background. Returns what ends it. `work` must not throw. */
export function every(clock: Clock, ms: number, work: () => void): () => void {
  let stop = () => {};
  const next = () => {
    stop = after(clock, ms, () => {
      next();
      work();
    });
  };
  next();
  return () => stop();
}
