import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { MINUTE_MS } from "../base/units.ts";
import type { EventDetails } from "../lifecycle/events.ts";
import type { Store } from "../store/store.ts";
import { describeTarget, type Target } from "./egress-policy.ts";
import type { Guest } from "./guest.ts";

/** Different targets recorded for one machine. A guest that names more has been seen for what it is. */
const MOST_TARGETS = 1_000;

/** Records what guests asked for and which rules they broke, at most once a minute each: a flood must not fill the store. */
export interface Audit {
  allowed(guest: Guest, target: Target): void;
  refused(guest: Guest, target: Target, reason: string): void;
  ruleBroken(guest: Guest, rule: string): void;
}

export function createAudit({ store, clock, log }: { store: Store; clock: Clock; log: Log }): Audit {
  function isDue(seen: Map<string, number>, key: string): boolean {
    const before = seen.get(key);
    if (before === undefined && seen.size >= MOST_TARGETS) return false;
    if (before !== undefined && clock.now() - before < MINUTE_MS) return false;
    seen.set(key, clock.now());
    return true;
  }

  function note<Kind extends "egress:allowed" | "egress:refused" | "guest:refused">(
    guest: Guest,
    kind: Kind,
    detail: EventDetails[Kind],
  ): void {
    const about = { machineId: guest.machineId, jobId: guest.session?.jobId };
    store.note(kind, about, detail).catch((error: unknown) => {
      log.warn({ machineId: guest.machineId, kind, error }, "event not recorded");
    });
  }

  return {
    allowed(guest, target) {
      const name = describeTarget(target);
      if (isDue(guest.audited, `+${name}`)) note(guest, "egress:allowed", { target: name });
    },
    refused(guest, target, reason) {
      const name = describeTarget(target);
      if (isDue(guest.audited, `-${name}`)) note(guest, "egress:refused", { target: name, reason });
    },
    ruleBroken(guest, rule) {
      if (isDue(guest.refusals, rule)) note(guest, "guest:refused", { rule });
    },
  };
}
