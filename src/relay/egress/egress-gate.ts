import { formatHostPort } from "../../base/host-port.ts";
import { type Egress, normalEgress } from "../../domain/egress.ts";
import type { MachineStore } from "../../store/store.ts";
import type { Audit } from "../gateway/audit.ts";
import type { Guest } from "../gateway/guest.ts";
import { unreachable } from "./egress-dialer.ts";
import type { NameRule } from "./egress-name-check.ts";
import { type Destination, EgressRefusal, evaluateTarget, refusalIn, type Target } from "./egress-policy.ts";

export interface EgressGateOptions {
  readonly store: Pick<MachineStore, "machine">;
  readonly audit: Audit;
  /** What a pool's guests may reach now; undefined for a pool that is no longer configured. */
  readonly egressOf: (pool: string) => Egress | undefined;
  readonly gitlab: Target;
}

/** A destination that the pool lets its guests go to, and what a tunnel there has to be for. */
interface Way {
  readonly destination: Destination;
  readonly nameRule: NameRule;
}

/** Where it is decided, and written down, what becomes of a guest's wish to go somewhere. */
export interface EgressGate {
  /** Throws EgressRefusal 403 when the pool's rules close the target. */
  permit(guest: Guest, target: Target): Promise<Way>;
  /** Writes a refusal down, and gives it to be thrown. */
  closed(guest: Guest, target: Target, reason: string): EgressRefusal;
  /** Runs `reach` and writes down whether the target was reached. Throws EgressRefusal. */
  audited<T>(guest: Guest, destination: Destination, reach: () => Promise<T>): Promise<T>;
}

export function createEgressGate({ store, audit, egressOf, gitlab }: EgressGateOptions): EgressGate {
  function closed(guest: Guest, target: Target, reason: string): EgressRefusal {
    audit.refused(guest, target, reason);
    return new EgressRefusal(403, `${formatHostPort(target)} is closed to this machine`, reason);
  }

  return {
    closed,
    async permit(guest, target) {
      const machine = await store.machine(guest.machineId);
      const egress = (machine && egressOf(machine.pool)) ?? normalEgress("none");
      const decision = evaluateTarget(egress, target, gitlab);
      if (!decision.allowed) throw closed(guest, target, decision.reason);
      audit.asked(guest, target, decision.unlisted);
      const { addresses, named, nameRule } = decision;
      return { destination: { target, addresses, named }, nameRule };
    },
    async audited(guest, { target }, reach) {
      try {
        const result = await reach();
        audit.connected(guest, target);
        return result;
      } catch (error) {
        const refusal = refusalIn(error) ?? unreachable(target, error);
        if (refusal.status === 403) audit.refused(guest, target, refusal.reason);
        else audit.failed(guest, target, refusal.reason);
        throw refusal;
      }
    },
  };
}
