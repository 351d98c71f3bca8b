/**
 * Work that several ask for and that is done once. It goes on as long as anybody waits for it: one who gives up ends nothing for the
 * others, the last one ends it.
 */
export interface SharedWork<T> {
  /** Settles as the work does, or with the reason of `signal`. `work` is started where none goes on under this key. */
  run(key: string, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T>;
}

interface Going<T> {
  readonly result: Promise<T>;
  readonly stop: AbortController;
  waiting: number;
}

export function createSharedWork<T>(): SharedWork<T> {
  const going = new Map<string, Going<T>>();

  function start(key: string, work: (signal: AbortSignal) => Promise<T>): Going<T> {
    const stop = new AbortController();
    const result = work(stop.signal).finally(() => {
      if (going.get(key) === started) going.delete(key);
    });
    // Whoever waits hears of it.
    result.catch(() => {});
    const started: Going<T> = { result, stop, waiting: 0 };
    going.set(key, started);
    return started;
  }

  return {
    async run(key, signal, work) {
      signal.throwIfAborted();
      const mine = going.get(key) ?? start(key, work);
      mine.waiting += 1;
      const gaveUp = Promise.withResolvers<never>();
      const leave = () => gaveUp.reject(signal.reason);
      signal.addEventListener("abort", leave, { once: true });
      try {
        return await Promise.race([mine.result, gaveUp.promise]);
      } finally {
        signal.removeEventListener("abort", leave);
        mine.waiting -= 1;
        if (mine.waiting === 0) {
          // Nobody may join what is about to end.
          if (going.get(key) === mine) going.delete(key);
          mine.stop.abort(signal.reason ?? new Error("nobody waits any more"));
        }
      }
    },
  };
}

/**
 * As `run`, for work that is done in somebody's name: where that of another one fails, what that one has or may not be ours, and it is done
 * again for us.
 */
export async function runOrRepeat<T>(
  shared: SharedWork<T>,
  key: string,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  let isOurs = false;
  const once = () =>
    shared.run(key, signal, (stop) => {
      isOurs = true;
      return work(stop);
    });
  return await once().catch(async (error: unknown) => {
    if (isOurs) throw error;
    signal.throwIfAborted();
    return await once();
  });
}
