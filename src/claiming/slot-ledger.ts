import type { Placement, Wanted } from "../domain/placement.ts";
import type { Pool } from "../domain/pool.ts";
import { limitBlocker, type Occupant, wantedOf } from "./slot-rules.ts";

/** What is taken, on hosts and of the pools' limits. */
export interface Ledger {
  add(occupant: Occupant, pools: ReadonlyMap<string, Pool>): void;
  take(pool: Pool): void;
  obstacle(pool: Pool): string | undefined;
  coverEach(pools: readonly Pool[]): boolean;
  clone(): Ledger;
}

export function createLedger(placement: Placement, counts: Map<string, number>): Ledger {
  const atLimit = (pool: Pool) => limitBlocker(pool, counts.get(pool.name) ?? 0);
  /** Jobs that are ours must get a machine, whatever else is asked for. */
  function reserveFor(wanted: Wanted): void {
    if (placement.place(wanted) === undefined) placement.reserveFuture(wanted);
  }
  return {
    add({ host, pool: name, size, isBeingMade }, pools) {
      const pool = pools.get(name);
      if (host !== undefined) placement.occupy(host, size, isBeingMade);
      else if (pool) reserveFor({ ...wantedOf(pool), size });
    },
    take(pool) {
      reserveFor(wantedOf(pool));
      counts.set(pool.name, (counts.get(pool.name) ?? 0) + 1);
    },
    obstacle: (pool) => atLimit(pool) ?? placement.blocker(wantedOf(pool)),
    coverEach(pools) {
      const trial = placement.clone();
      return pools
        .filter((pool) => atLimit(pool) === undefined)
        .every((pool) => trial.place(wantedOf(pool)) !== undefined);
    },
    clone: () => createLedger(placement.clone(), new Map(counts)),
  };
}
