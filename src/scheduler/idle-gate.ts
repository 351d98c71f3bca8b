export interface IdleGate {
  /** Lets everybody through who waits now. */
  open(): void;
  /** Resolves at the next `open`; rejects with the signal's reason. */
  wait(signal: AbortSignal): Promise<void>;
}

export function createIdleGate(): IdleGate {
  const waiting = new Set<() => void>();
  return {
    open() {
      for (const pass of waiting) pass();
      waiting.clear();
    },
    wait(signal) {
      return new Promise((resolve, reject) => {
        if (signal.aborted) return reject(signal.reason);
        const giveUp = () => {
          waiting.delete(pass);
          reject(signal.reason);
        };
        const pass = () => {
          signal.removeEventListener("abort", giveUp);
          resolve();
        };
        waiting.add(pass);
        signal.addEventListener("abort", giveUp, { once: true });
      });
    },
  };
}
