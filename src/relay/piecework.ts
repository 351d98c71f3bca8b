/**
 * Long work of many, in pieces: one piece in each round of the event loop, in the order in which they were asked for, so that between
 * two of them everybody else is served.
 */
export interface Piecework {
  /** Resolves when the next piece may be done. It must be done at once, and take milliseconds. */
  turn(): Promise<void>;
}

export function createPiecework(): Piecework {
  const waiting: (() => void)[] = [];

  function next(): void {
    waiting.shift()?.();
    if (waiting.length > 0) setImmediate(next);
  }

  return {
    turn: () =>
      new Promise((resolve) => {
        waiting.push(resolve);
        if (waiting.length === 1) setImmediate(next);
      }),
  };
}
