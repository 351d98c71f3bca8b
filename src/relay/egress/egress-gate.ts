/** Where it is decided, and written down, what becomes of a guest's wish to go somewhere. */
import { formatHostPort } from "../../base/host-port.ts";
import { type Egress, normalEgress } from "../../domain/egress.ts";
import type { MachineStore } from "../../store/store.ts";
import type { Audit } from "../gateway/audit.ts";
import type { Guest } from "../gateway/guest.ts";
import { unreachable } from "./egress-dialer.ts";
import type { NameRule } from "./egress-name-check.ts";
import { type Destination, EgressRefusal, evaluateTarget, refusalIn, type Target } from "./egress-policy.ts";

interface EgressGateOptions {
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

export interface EgressGate {
  /** Throws EgressRefusal 403 when the pool's rules close the target. */
  permit(guest: Guest, target: Target): Promise<Way>;
  /**
   * Where a server that was permitted sends its clients on to: what the pool's rules let it reach, and public addresses besides, unless they let
   * it reach nothing. Throws EgressRefusal 403.
   */
  permitBehind(guest: Guest, target: Target): Promise<Destination>;
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

  async function rulesOf({ machineId }: Guest): Promise<Egress> {
    const machine = await store.machine(machineId);
    return (machine && egressOf(machine.pool)) ?? normalEgress("none");
  }

  return {
    closed,
    async permit(guest, target) {
      const decision = evaluateTarget(await rulesOf(guest), target, gitlab);
      if (!decision.allowed) throw closed(guest, target, decision.reason);
      audit.asked(guest, target, decision.unlisted);
      const { addresses, named, nameRule } = decision;
      return { destination: { target, addresses, named }, nameRule };
    },
    async permitBehind(guest, target) {
      const rules = await rulesOf(guest);
      const own = evaluateTarget(rules, target, gitlab);
      const decision = own.allowed
        ? own
        : evaluateTarget({ ...rules, mode: rules.mode === "none" ? "none" : "internet" }, target, gitlab);
      if (!decision.allowed) throw closed(guest, target, decision.reason);
      return { target, addresses: decision.addresses, named: decision.named };
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
