/**
 * Work of many machines, in pieces: one piece in each round of the event loop, and the machines in turn, each with its pieces in the order
 * in which they were asked for. Between two pieces everybody else is served, and who asks for one waits for no more than one of each
 * other machine, however many those have asked for.
 */
export interface ChunkedWork {
  /** Resolves when the next piece of `owner` may be done. It must be done at once, and take milliseconds. */
  turn(owner: object): Promise<void>;
}

export function createChunkedWork(): ChunkedWork {
  /** In the order of their next turns. */
  const waiting = new Map<object, (() => void)[]>();

  function next(): void {
    const [first] = waiting;
    if (first === undefined) return;
    const [owner, pieces] = first;
    pieces.shift()?.();
    waiting.delete(owner);
    if (pieces.length > 0) waiting.set(owner, pieces);
    if (waiting.size > 0) setImmediate(next);
  }

  return {
    turn: (owner) =>
      new Promise((resolve) => {
        if (waiting.size === 0) setImmediate(next);
        const pieces = waiting.get(owner);
        if (pieces === undefined) waiting.set(owner, [resolve]);
        else pieces.push(resolve);
      }),
  };
}
