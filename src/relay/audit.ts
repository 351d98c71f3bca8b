import type { Clock } from "../base/clock.ts";
import { MINUTE_MS } from "../base/units.ts";
import type { EventDetails } from "../lifecycle/events.ts";
import type { Store } from "../store/store.ts";
import { describeTarget, type Target } from "./egress-policy.ts";
import type { Guest } from "./guest.ts";

/** Different things recorded of one machine, and records of it in all. A guest that causes more has been seen for what it is. */
const MOST_KINDS = 1_000;
const MOST_RECORDS = 2_000;

/** Records what guests asked for and which rules they broke, at most once a minute each and so many in all: a flood must not fill the store. */
export interface Audit {
  allowed(guest: Guest, target: Target): void;
  refused(guest: Guest, target: Target, reason: string): void;
  ruleBroken(guest: Guest, rule: string): void;
}

export function createAudit({ store, clock }: { store: Store; clock: Clock }): Audit {
  function isDue(guest: Guest, key: string): boolean {
    const { audited } = guest;
    const before = audited.get(key);
    if (guest.records >= MOST_RECORDS || (before === undefined && audited.size >= MOST_KINDS)) return false;
    if (before !== undefined && clock.now() - before < MINUTE_MS) return false;
    audited.set(key, clock.now());
    guest.records += 1;
    if (guest.records === MOST_RECORDS) note(guest, "guest:refused", { rule: "too-many-records" });
    return true;
  }

  function note<Kind extends "egress:allowed" | "egress:refused" | "guest:refused">(
    guest: Guest,
    kind: Kind,
    detail: EventDetails[Kind],
  ): void {
    const about = { machineId: guest.machineId, jobId: guest.session?.jobId };
    store.note(kind, about, detail).catch((error: unknown) => {
      guest.log.write("warn", "event not recorded", { kind, error }, "event not recorded");
    });
  }

  return {
    allowed(guest, target) {
      const name = describeTarget(target);
      if (isDue(guest, `+${name}`)) note(guest, "egress:allowed", { target: name });
    },
    refused(guest, target, reason) {
      const name = describeTarget(target);
      if (isDue(guest, `-${name}`)) note(guest, "egress:refused", { target: name, reason });
    },
    ruleBroken(guest, rule) {
      if (isDue(guest, rule)) note(guest, "guest:refused", { rule });
    },
  };
}
