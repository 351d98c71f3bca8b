import type { Socket } from "node:net";
import type { ChunkedWork } from "./chunked-work.ts";
import type { Guest } from "./guest.ts";

export interface ArrivalsOptions {
  readonly pieces: ChunkedWork;
  /** Looks into the connection. */
  readonly begin: (socket: Socket) => void;
  /** One waits, because there were too many in too short a time. */
  readonly onTooMany: (guest: Guest) => void;
}

/**
 * New connections, each not looked into before its turn and before its machine may have one more. One that were hung up on would be there
 * again at once, and cost more than one that waits.
 */
export function createArrivals({ pieces, begin, onTooMany }: ArrivalsOptions) {
  return async (guest: Guest, socket: Socket): Promise<void> => {
    const gone = new AbortController();
    socket.once("close", () => gone.abort()).on("error", ignore);
    if (!guest.arrivals.tryTake()) {
      onTooMany(guest);
      await guest.arrivals.take(gone.signal).catch(ignore);
    }
    await pieces.turn(guest);
    socket.off("error", ignore);
    if (!socket.destroyed) begin(socket);
  };
}

function ignore(): void {}
