import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { MINUTE_MS } from "../base/units.ts";
import type { EventDetails, EventKind } from "../lifecycle/events.ts";
import type { Store } from "../store/store.ts";
import { describeTarget, type Target } from "./egress-policy.ts";
import type { Guest } from "./guest.ts";

/** Different things recorded of one machine. A guest that names more has been seen for what it is. */
const MOST_DIFFERENT = 1_000;
/** Rows of one machine about its way out, so that the story of its job still has room for its end. */
const MOST_EGRESS_ROWS = 600;

type EgressKind = Extract<EventKind, `egress:${string}`>;

/** Records what guests asked for and which rules they broke, seldom for each: a flood must not fill the store. */
export interface Audit {
  /** The guest wants to go there, and its pool lets it. `unlisted`: only because what the list lacks is written down. */
  asked(guest: Guest, target: Target, unlisted?: boolean): void;
  connected(guest: Guest, target: Target): void;
  /** It may not, by its name or by its addresses. */
  refused(guest: Guest, target: Target, reason: string): void;
  /** It may, and does not get there. */
  failed(guest: Guest, target: Target, reason: string): void;
  ruleBroken(guest: Guest, rule: string): void;
}

export function createAudit({ store, clock, log }: { store: Store; clock: Clock; log: Log }): Audit {
  const egressRows = new WeakMap<Guest, number>();

  function isDue(seen: Map<string, number>, key: string, againAfterMs = MINUTE_MS): boolean {
    const before = seen.get(key);
    if (before === undefined && seen.size >= MOST_DIFFERENT) return false;
    if (before !== undefined && clock.now() - before < againAfterMs) return false;
    seen.set(key, clock.now());
    return true;
  }

  function note<Kind extends EgressKind | "guest:refused">(
    guest: Guest,
    kind: Kind,
    detail: EventDetails[Kind],
  ): void {
    const about = { machineId: guest.machineId, jobId: guest.session?.jobId };
    store.note(kind, about, detail).catch((error: unknown) => {
      log.warn({ machineId: guest.machineId, kind, error }, "event not recorded");
    });
  }

  /** Said once that a host is asked for and reached; that it is not, again after a while. */
  function egress<Kind extends EgressKind>(guest: Guest, kind: Kind, detail: EventDetails[Kind]): void {
    const rows = egressRows.get(guest) ?? 0;
    const againAfterMs = "reason" in detail ? MINUTE_MS : Number.POSITIVE_INFINITY;
    if (rows >= MOST_EGRESS_ROWS || !isDue(guest.audited, `${kind} ${detail.target}`, againAfterMs)) return;
    egressRows.set(guest, rows + 1);
    note(guest, kind, detail);
  }

  return {
    asked(guest, target, unlisted = false) {
      egress(guest, unlisted ? "egress:unlisted" : "egress:asked", { target: describeTarget(target) });
    },
    connected(guest, target) {
      egress(guest, "egress:connected", { target: describeTarget(target) });
    },
    refused(guest, target, reason) {
      egress(guest, "egress:refused", { target: describeTarget(target), reason });
    },
    failed(guest, target, reason) {
      egress(guest, "egress:failed", { target: describeTarget(target), reason });
    },
    ruleBroken(guest, rule) {
      if (isDue(guest.refusals, rule)) note(guest, "guest:refused", { rule });
    },
  };
}
