/** How many are let go in one round of the event loop. */
const AT_ONCE = 2;

/**
 * Has work that comes in pieces done a few pieces in each round of the event loop, and everything else in between. Who has had least
 * so far goes first, `hadBytes` being what that is told by; among equals, who came first.
 */
export type TakeTurn = (hadBytes: number, go: () => unknown) => void;

interface Waiting {
  readonly hadBytes: number;
  readonly go: () => unknown;
}

export function createFairQueue(): TakeTurn {
  const waiting = new Set<Waiting>();

  function next(): Waiting | undefined {
    let least: Waiting | undefined;
    for (const each of waiting)
      if (each.hadBytes < (least?.hadBytes ?? Number.POSITIVE_INFINITY)) least = each;
    if (least) waiting.delete(least);
    return least;
  }

  function run(): void {
    const now = Array.from({ length: AT_ONCE }, next);
    // Before going: what goes may come back, and then waits for the next round.
    if (waiting.size > 0) setImmediate(run);
    for (const each of now) each?.go();
  }

  return (hadBytes, go) => {
    waiting.add({ hadBytes, go });
    if (waiting.size === 1) setImmediate(run);
  };
}
