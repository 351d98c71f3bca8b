import type { ServerResponse } from "node:http";
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
