import type { Clock } from "../../base/clock.ts";
import { formatHostPort } from "../../base/host-port.ts";
import { MINUTE_MS } from "../../base/units.ts";
import type { EventDetails, EventKind } from "../../domain/events.ts";
import type { EventStore, JobStore } from "../../store/store.ts";
import type { Target } from "../egress/egress-policy.ts";
import type { Guest } from "./guest.ts";

/** Different things recorded of one machine, and records of it in all. A guest that causes more has been seen for what it is. */
const MOST_DIFFERENT = 1_000;
const MOST_RECORDS = 2_000;
/** Rows of one machine about its way out, so that the story of its job still has room for its end. */
const MOST_EGRESS_ROWS = 600;

type EgressKind = Extract<EventKind, `egress:${string}`>;

/** Records what guests asked for and which rules they broke, seldom for each and so often in all: a flood must not fill the store. */
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

export function createAudit({ store, clock }: { store: JobStore & EventStore; clock: Clock }): Audit {
  const egressRows = new WeakMap<Guest, number>();

  function isDue(guest: Guest, key: string, againAfterMs = MINUTE_MS): boolean {
    const { audited } = guest;
    const before = audited.get(key);
    if (guest.records >= MOST_RECORDS || (before === undefined && audited.size >= MOST_DIFFERENT))
      return false;
    if (before !== undefined && clock.now() - before < againAfterMs) return false;
    audited.set(key, clock.now());
    guest.records += 1;
    if (guest.records === MOST_RECORDS) note(guest, "guest:refused", { rule: "too-many-records" });
    return true;
  }

  function note<Kind extends EgressKind | "guest:refused">(
    guest: Guest,
    kind: Kind,
    detail: EventDetails[Kind],
  ): void {
    const about = { machineId: guest.machineId, jobId: guest.session?.jobId };
    store.note(kind, about, detail).catch((error: unknown) => {
      guest.log.write("warn", "event not recorded", { kind, error }, "event not recorded");
    });
  }

  /** Said once that a host is asked for and reached; that it is not, again after a while. */
  function egress<Kind extends EgressKind>(guest: Guest, kind: Kind, detail: EventDetails[Kind]): void {
    const rows = egressRows.get(guest) ?? 0;
    const againAfterMs = "reason" in detail ? MINUTE_MS : Number.POSITIVE_INFINITY;
    if (rows >= MOST_EGRESS_ROWS || !isDue(guest, `${kind} ${detail.target}`, againAfterMs)) return;
    egressRows.set(guest, rows + 1);
    note(guest, kind, detail);
  }

  return {
    asked(guest, target, unlisted = false) {
      egress(guest, unlisted ? "egress:unlisted" : "egress:asked", { target: formatHostPort(target) });
    },
    connected(guest, target) {
      egress(guest, "egress:connected", { target: formatHostPort(target) });
    },
    refused(guest, target, reason) {
      egress(guest, "egress:refused", { target: formatHostPort(target), reason });
    },
    failed(guest, target, reason) {
      egress(guest, "egress:failed", { target: formatHostPort(target), reason });
    },
    ruleBroken(guest, rule) {
      if (isDue(guest, rule)) note(guest, "guest:refused", { rule });
    },
  };
}
