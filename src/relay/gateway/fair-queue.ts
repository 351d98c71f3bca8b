import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Guest } from "./guest.ts";

/** Requests that may wait behind one that is served: of one connection, and of all connections of a machine. apt sends up to ten ahead. */
const MOST_AHEAD = { ofConnection: 10, ofMachine: 64 };

interface FairQueueOptions {
  /** Must not throw. */
  readonly serve: (guest: Guest, request: IncomingMessage, response: ServerResponse) => void;
  /** A connection has been ended. */
  readonly onTooMany: (guest: Guest) => void;
}

/**
 * One request of a connection at a time. Node reads those that a client has sent ahead and would have them all served at once: here
 * they wait, unserved, and a client that sends many more is hung up on. The connection is read on all the same, so that its end is seen.
 */
interface FairQueue {
  arrive(guest: Guest, request: IncomingMessage, response: ServerResponse): void;
  /** Whether a request of the connection is unanswered. */
  isBusy(socket: Socket): boolean;
}

interface Waiting {
  readonly guest: Guest;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

export function createFairQueue({ serve, onTooMany }: FairQueueOptions): FairQueue {
  const busy = new WeakMap<Socket, Waiting[]>();
  const waiting = new WeakMap<Guest, number>();

  function count(guest: Guest, change: number): void {
    waiting.set(guest, (waiting.get(guest) ?? 0) + change);
  }

  function begin({ guest, request, response }: Waiting): void {
    const { socket } = request;
    response.once("close", () => next(socket));
    serve(guest, request, response);
  }

  function next(socket: Socket): void {
    const ahead = busy.get(socket);
    const first = socket.destroyed ? undefined : ahead?.shift();
    if (first === undefined) {
      forget(socket);
      return;
    }
    count(first.guest, -1);
    begin(first);
  }

  function forget(socket: Socket): void {
    for (const { guest } of busy.get(socket) ?? []) count(guest, -1);
    busy.delete(socket);
  }

  return {
    arrive(guest, request, response) {
      const { socket } = request;
      // It came in one piece with one that ended the connection.
      if (socket.destroyed) return;
      const ahead = busy.get(socket);
      if (ahead === undefined) {
        busy.set(socket, []);
        return begin({ guest, request, response });
      }
      if (ahead.length < MOST_AHEAD.ofConnection && (waiting.get(guest) ?? 0) < MOST_AHEAD.ofMachine) {
        ahead.push({ guest, request, response });
        return count(guest, 1);
      }
      forget(socket);
      socket.destroy();
      onTooMany(guest);
    },
    isBusy: (socket) => busy.has(socket),
  };
}

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
