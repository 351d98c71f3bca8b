/**
 * The daemon's one queue. It knows no doubles: each event is an entry of its own, which is how a machine can be looked at once
 * more after it is gone.
 */
export interface WorkQueue {
  add(uid: string): void;
  /** Waits for the next entry; rejects when the signal aborts. */
  next(signal: AbortSignal): Promise<string>;
  readonly length: number;
}

export function createWorkQueue(): WorkQueue {
  const entries: string[] = [];
  let wake: (() => void) | undefined;

  async function next(signal: AbortSignal): Promise<string> {
    for (;;) {
      signal.throwIfAborted();
      const entry = entries.shift();
      if (entry !== undefined) return entry;
      await new Promise<void>((resolve) => {
        wake = resolve;
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
    }
  }

  return {
    add(uid) {
      entries.push(uid);
      wake?.();
    },
    next,
    get length() {
      return entries.length;
    },
  };
}
