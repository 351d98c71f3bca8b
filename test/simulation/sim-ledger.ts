/**
 * Keeps count of what is on each host, from the store's events and from what hosts are asked to make, and notes when a host is given
 * more than it has.
 */
import type { LifecycleEvent } from "../../src/domain/events.ts";
import { hostKey } from "../../src/domain/placement.ts";
import { type Capacity, fits, occupied, type Size } from "../../src/domain/size.ts";
import type { SimClock } from "./sim-clock.ts";

/** A plan is carried out so long after the look that it was made from, at the latest. */
const PLAN_AGE_MS = 3_000;

interface Row {
  readonly host: string;
  readonly size: Size;
  readonly madeAt: number;
  isGone: boolean;
}

export interface SimLedger {
  readonly violations: readonly string[];
  hear(event: LifecycleEvent): void;
  /** Machines whose rows say that they are on this host. */
  liveOn(host: string): string[];
  /** Somebody was told what is on this host. */
  noteList(host: string, ids: ReadonlySet<string>): void;
  /** A host is asked to make a machine beside those that it has. */
  checkRoom(host: string, id: string, size: Size, capacity: Capacity, there: readonly string[]): void;
}

export function createLedger(clock: SimClock, capacityOf: (host: string) => Capacity | undefined): SimLedger {
  const rows = new Map<string, Row>();
  const violations: string[] = [];
  /** Since when it is told of machines that nobody needs any more, by host and machine. */
  const strangers = new Map<string, Map<string, number>>();

  const liveOn = (host: string) => [...rows].filter(([, row]) => row.host === host && !row.isGone);

  function check(host: string, taken: readonly Size[], capacity: Capacity, size: Size, what: string): void {
    const used = occupied(taken);
    if (!fits(capacity, used, size))
      violations.push(`${host} was over its capacity ${what}: ${JSON.stringify({ used, size, capacity })}`);
  }

  return {
    violations,
    liveOn: (host) => liveOn(host).map(([id]) => id),
    hear(event) {
      if (event.machineId === null) return;
      if (event.kind === "machine:creating") {
        const { host, driver, cpus, memoryMib, diskMib = 0 } = event.detail;
        const row = {
          host: hostKey({ driver, host }),
          size: { cpus, memoryMib, diskMib },
          madeAt: clock.now(),
          isGone: false,
        };
        const capacity = capacityOf(row.host);
        const taken = liveOn(row.host).map(([, { size }]) => size);
        if (capacity) check(row.host, taken, capacity, row.size, `by ${event.machineId} in the store`);
        rows.set(event.machineId, row);
      }
      const row = rows.get(event.machineId);
      if (event.kind === "machine:gone" && row) row.isGone = true;
    },
    noteList(host, ids) {
      const known = strangers.get(host) ?? new Map<string, number>();
      const unneeded = [...ids].filter((id) => {
        const row = rows.get(id);
        return !row || row.isGone || row.host !== host;
      });
      strangers.set(host, new Map(unneeded.map((id) => [id, known.get(id) ?? clock.now()])));
    },
    checkRoom(host, id, size, capacity, there) {
      const madeAt = rows.get(id)?.madeAt ?? clock.now();
      const counted = there.filter((other) => {
        if (other === id) return false;
        const row = rows.get(other);
        if (row && !row.isGone && row.host === host) return true;
        const toldAt = strangers.get(host)?.get(other);
        return toldAt !== undefined && toldAt < madeAt - PLAN_AGE_MS;
      });
      const sizes = counted.map(
        (other) => rows.get(other)?.size ?? { cpus: 1, memoryMib: 1_024, diskMib: 0 },
      );
      check(host, sizes, capacity, size, `by ${id} beside ${counted.join(", ")}`);
    },
  };
}
