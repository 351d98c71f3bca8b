import type { Listing, Snapshot } from "./listing.ts";
import { isRunning } from "./remote.ts";

/** Calls `onEnd` for each machine that ran at one look and does not at the next, unless it is being removed by us. */
export function watchEnds(
  listing: Pick<Listing, "onList">,
  isRemoving: (id: string) => boolean,
  onEnd: (id: string) => void,
): void {
  let running = new Set<string>();
  listing.onList((snapshot) => {
    const next = runningIn(snapshot);
    const ended = [...running].filter((id) => !next.has(id));
    running = next;
    for (const id of ended) if (!isRemoving(id)) onEnd(id);
  });
}

function runningIn({ machines }: Snapshot): Set<string> {
  return new Set([...machines].filter(([, each]) => each.some(isRunning)).map(([id]) => id));
}
