import {
  createPlacement,
  type HostCapacity,
  type Placement,
  type PlacementPolicy,
  type Wanted,
} from "../domain/placement.ts";
import type { Pool } from "../domain/pool.ts";
import type { Store } from "../store/store.ts";
import { createLedger, type Ledger } from "./slot-ledger.ts";
import { countByPool, type Occupant, occupants, wantedOf } from "./slot-rules.ts";

/**
 * The ledger of slots: what is free on each host is its capacity, minus every machine that is not gone, minus every job that still
 * needs a machine, minus every poll that may bring a job. The first two are read from the store's rows, so the ledger cannot drift.
 * What has no host yet is placed as the scheduler would place it.
 */
export interface Slots {
  /** Reads hosts and, if rows have changed, rows. Throws what the store or a driver throws. */
  refresh(): Promise<void>;
  /** Takes a slot for one poll, or answers undefined when `obstacle` has something to say. */
  reserve(pool: Pool): Reservation | undefined;
  /** Why no slot can be had now, in words. */
  obstacle(pool: Pool): string | undefined;
  /** Why no slot could be had even if nothing ran, in words. */
  impossible(pool: Pool): string | undefined;
  /** The same of any machine, whatever room there is for disks: that changes by itself. Undefined while no host is known. */
  neverHeld(wanted: Wanted): string | undefined;
  /**
   * True when one more machine of each of these pools fits beside the machines and jobs there are. Pools that have reached
   * their limit of jobs do not count.
   */
  coverEach(pools: readonly Pool[]): boolean;
  close(): void;
}

export interface Reservation {
  /** The poll brought a job, whose row is in the store: from the next reading on, the row holds the slot. */
  handTo(jobId: number): void;
  /** The poll brought nothing. */
  release(): void;
}

export interface SlotsOptions {
  readonly store: Pick<Store, "jobs" | "machines" | "onEvent">;
  readonly pools: () => ReadonlyMap<string, Pool>;
  /** Every host with what it has and what it may not be used for. */
  readonly rooms: () => Promise<readonly HostCapacity[]>;
  readonly placement: PlacementPolicy;
}

interface Held {
  readonly pool: Pool;
  jobId: number | undefined;
  /** The number of the reading that was last begun when the job's row was written; undefined for an open poll. */
  handedDuring: number | undefined;
}

export function createSlots({ store, pools, rooms: readRooms, placement: policy }: SlotsOptions): Slots {
  const neverHeld = neverHeldBy(policy);
  const held = new Set<Held>();
  let rows: readonly Occupant[] = [];
  let rooms: readonly HostCapacity[] = [];
  /** Made anew when something has changed. */
  let ledgers: Ledgers | undefined;
  let changed = true;
  let readings = 0;
  const forget = store.onEvent(({ kind }) => {
    changed ||= kind.startsWith("job:") || kind.startsWith("machine:");
  });

  async function refresh(): Promise<void> {
    rooms = await readRooms();
    ledgers = undefined;
    if (!changed) return;
    changed = false;
    const reading = ++readings;
    try {
      rows = await read(store);
    } catch (error) {
      changed = true;
      throw error;
    }
    for (const each of held) {
      // A reading begun before the row was written may have missed it.
      if (each.handedDuring !== undefined && each.handedDuring < reading) held.delete(each);
    }
    ledgers = undefined;
  }

  function current(): Ledgers {
    ledgers ??= ledgersOf(createPlacement(rooms, policy), rows, [...held], pools());
    return ledgers;
  }

  function reserve(pool: Pool): Reservation | undefined {
    const { all } = current();
    if (all.obstacle(pool) !== undefined) return undefined;
    all.take(pool);
    const own: Held = { pool, jobId: undefined, handedDuring: undefined };
    held.add(own);
    return {
      handTo(jobId) {
        own.jobId = jobId;
        own.handedDuring = readings;
        changed = true;
        ledgers = undefined;
      },
      release() {
        held.delete(own);
        ledgers = undefined;
      },
    };
  }

  function impossible(pool: Pool): string | undefined {
    if (rooms.length === 0) return undefined;
    const problem = createPlacement(rooms, policy).impossible(wantedOf(pool));
    return problem && `a machine of this pool never fits here: ${problem}`;
  }

  return {
    refresh,
    reserve,
    obstacle: (pool) => current().all.obstacle(pool),
    impossible,
    neverHeld: (wanted) => neverHeld(rooms, wanted),
    coverEach: (wanted) => current().existing.coverEach(wanted),
    close: () => void forget(),
  };
}

/** Asked of every job that waits, so the hosts are gone through once for each reading of them. */
function neverHeldBy(policy: PlacementPolicy) {
  let known: { readonly rooms: readonly HostCapacity[]; readonly placement: Placement } | undefined;
  return (rooms: readonly HostCapacity[], wanted: Wanted): string | undefined => {
    if (rooms.length === 0) return undefined;
    if (known?.rooms !== rooms) known = { rooms, placement: createPlacement(rooms.map(withoutDisk), policy) };
    return known.placement.impossible(wanted);
  };
}

function withoutDisk(room: HostCapacity): HostCapacity {
  return { ...room, capacity: { ...room.capacity, diskMib: undefined } };
}

interface Ledgers {
  /** Machines and jobs. */
  readonly existing: Ledger;
  /** And the polls. */
  readonly all: Ledger;
}

function ledgersOf(
  placement: Placement,
  rows: readonly Occupant[],
  held: readonly Held[],
  pools: ReadonlyMap<string, Pool>,
): Ledgers {
  const existing = createLedger(placement, countByPool(rows));
  for (const row of rows) existing.add(row, pools);
  const inRows = new Set(rows.map((row) => row.jobId));
  const [open, handed] = [held.filter(isOpenPoll), held.filter((each) => !isOpenPoll(each))];
  for (const { pool, jobId = null } of handed) if (!inRows.has(jobId)) existing.take(pool);
  const all = existing.clone();
  for (const { pool } of open) all.take(pool);
  return { existing, all };
}

function isOpenPoll({ jobId }: Held): boolean {
  return jobId === undefined;
}

async function read(store: SlotsOptions["store"]): Promise<Occupant[]> {
  // Jobs first: a job that gets its machine in between is then seen at least once, and never lost between the two.
  const jobs = await store.jobs({ unfinished: true });
  const machines = await store.machines({ live: true });
  return occupants(jobs, machines);
}
