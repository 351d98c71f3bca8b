/**
 * What one machine may have under way: one request of a connection at a time, in their order; so many of each route, and so many bytes held
 * for it and for all machines together. What is beyond that is refused or hung up on, so that no guest can take the relay from the others.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { MIB_BYTES } from "../../base/units.ts";
import type { RelaySettings } from "../config.ts";
import { Refusal } from "../errors.ts";
import type { Guest } from "./guest.ts";
import { routeRules, type Served } from "./routes.ts";

interface HeldBytesLimits {
  readonly perMachineBytes: number;
  readonly inAllBytes: number;
  /** Machines whose endpoints are open. */
  readonly machines: () => number;
}

/**
 * Counts what the program holds in memory for its guests. Half of all there is goes to whoever comes first; the other half belongs to
 * the machines in equal shares, so that some of them, together, cannot keep the others out.
 */
interface HeldBytes {
  /** Throws Refusal 503 when the machine, or all machines together, would hold too much. */
  add(guest: Guest, bytes: number): void;
  remove(guest: Guest, bytes: number): void;
  readonly totalBytes: number;
}

export function createHeldBytes({ perMachineBytes, inAllBytes, machines }: HeldBytesLimits): HeldBytes {
  const held = new WeakMap<Guest, number>();
  let totalBytes = 0;

  function whyNot(mine: number, bytes: number): string | undefined {
    if (mine > perMachineBytes) return "too-much-held";
    const isPlenty = totalBytes + bytes <= inAllBytes / 2;
    const isOwnShare = mine <= inAllBytes / 2 / Math.max(1, machines());
    return isPlenty || isOwnShare ? undefined : "too-much-held-by-all";
  }

  return {
    add(guest, bytes) {
      const mine = (held.get(guest) ?? 0) + bytes;
      const rule = whyNot(mine, bytes);
      if (rule !== undefined) {
        throw new Refusal(503, "too much is under way; try again", { rule, headers: { "Retry-After": "1" } });
      }
      held.set(guest, mine);
      totalBytes += bytes;
    },
    remove(guest, bytes) {
      held.set(guest, (held.get(guest) ?? 0) - bytes);
      totalBytes -= bytes;
    },
    get totalBytes() {
      return totalBytes;
    },
  };
}

/** One for all: each request ends by it, and where it was made says nothing. */
const closed = new Error("the guest closed the connection");

interface AdmissionOptions {
  readonly settings: Pick<RelaySettings, "tunnels" | "heldPerMachine" | "heldInAll">;
  /** Machines whose endpoints are open. */
  readonly machines: () => number;
}

/** What one request was let in with. It counts until its work is done and its answer, or its connection, has ended. */
interface Ticket {
  /** Counts more bytes as held until the end. Throws Refusal 503 when there is no room for them. */
  hold(bytes: number): void;
  /** Aborts when nobody waits for the answer any more, or the time is up. */
  readonly signal: AbortSignal;
  /** The work is done. To be called once, in every case. */
  done(): void;
}

/** Lets requests in by the table of rules. */
export interface Admission {
  /** `end`: what closes with the request. `onLate` is called when its time is up. Throws Refusal 503 when there are too many. */
  admit(guest: Guest, served: Served, end: ServerResponse | Socket, onLate: () => void): Ticket;
  /** What is held of all requests that are under way. */
  heldBytes(): number;
}

export function createAdmission({ settings, machines }: AdmissionOptions): Admission {
  const heldBytes = createHeldBytes({
    perMachineBytes: settings.heldPerMachine * MIB_BYTES,
    inAllBytes: settings.heldInAll * MIB_BYTES,
    machines,
  });
  const counts = new WeakMap<Guest, Map<Served, number>>();

  function limitOf(served: Served): number {
    const { atOnce } = routeRules[served];
    return atOnce === "tunnels" ? settings.tunnels : atOnce;
  }

  function enter(guest: Guest, served: Served): () => void {
    const mine = counts.get(guest) ?? new Map<Served, number>();
    counts.set(guest, mine);
    const count = mine.get(served) ?? 0;
    const limit = limitOf(served);
    if (count >= limit) {
      throw new Refusal(503, `more than ${limit} requests of this kind at one time; try again`, {
        rule: `too-many-at-once:${served}`,
        headers: { "Retry-After": "1" },
      });
    }
    mine.set(served, count + 1);
    return () => mine.set(served, (mine.get(served) ?? 1) - 1);
  }

  return {
    heldBytes: () => heldBytes.totalBytes,
    admit(guest, served, end, onLate) {
      const { holdsBytes, endsAfterMs } = routeRules[served];
      heldBytes.add(guest, holdsBytes);
      let bytes = holdsBytes;
      let leave: () => void;
      try {
        leave = enter(guest, served);
      } catch (error) {
        heldBytes.remove(guest, bytes);
        throw error;
      }
      const over = new AbortController();
      const timer = endsAfterMs === undefined ? undefined : setTimeout(late, endsAfterMs);
      timer?.unref();
      let reasonsToStay = 2;

      function late(): void {
        over.abort(new Refusal(503, "this took too long; try again"));
        onLate();
      }
      function oneLess(): void {
        reasonsToStay -= 1;
        if (reasonsToStay > 0) return;
        leave();
        heldBytes.remove(guest, bytes);
      }
      function ended(): void {
        clearTimeout(timer);
        over.abort(closed);
        oneLess();
      }
      if (end.destroyed) ended();
      else end.once("close", ended);

      return {
        signal: over.signal,
        hold(more) {
          heldBytes.add(guest, more);
          bytes += more;
        },
        done: oneLess,
      };
    },
  };
}

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
