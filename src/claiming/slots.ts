/** Slots: capacity that is reserved on a host before a job is asked for. */
import {
  createPlacement,
  type HostCapacity,
  hostKey,
  type Placement,
  type PlacementPolicy,
  type Wanted,
} from "../domain/placement.ts";
import type { Pool } from "../domain/pool.ts";
import type { Size } from "../domain/size.ts";
import { slotHoldingJobStates } from "../domain/states.ts";
import type { Job, Machine, Store } from "../store/store.ts";

/**
 * The ledger of slots: what is free on each host is its capacity, minus every machine that is not gone, minus every job that still
 * needs a machine, minus every poll that may bring a job. The first two are read from the store's rows, so the ledger cannot drift.
 * What has no host yet is placed as the scheduler would place it.
 */
export interface Slots {
  /** Reads hosts and, if rows have changed, rows. Throws what the store or a driver throws. */
  refresh(): Promise<void>;
  /** Takes a slot for one poll, or returns undefined when there is a `blocker`. */
  reserve(pool: Pool): Reservation | undefined;
  /** Why no slot can be had now. */
  blocker(pool: Pool): string | undefined;
  /** Why no slot could be had even if nothing ran. */
  impossible(pool: Pool): string | undefined;
  /** The same of any machine, whatever disk is free: that changes by itself. Undefined while no host is known. */
  neverHeld(wanted: Wanted): string | undefined;
  /**
   * True when one more machine of each of these pools fits beside the machines and jobs there are. Pools that have reached
   * their limit of jobs do not count.
   */
  fitsOneOfEach(pools: readonly Pool[]): boolean;
  close(): void;
}

export interface Reservation {
  /** The poll brought a job, whose row is in the store: from the next reading on, the row holds the slot. */
  handTo(jobId: number): void;
  /** The poll brought nothing. */
  release(): void;
}

interface SlotsOptions {
  readonly store: Pick<Store, "jobs" | "machines" | "onEvent">;
  readonly pools: () => ReadonlyMap<string, Pool>;
  /** Every host with what it has and what it may not be used for. */
  readonly hosts: () => Promise<readonly HostCapacity[]>;
  readonly placement: PlacementPolicy;
}

interface Held {
  readonly pool: Pool;
  jobId: number | undefined;
  /** The number of the reading that was last begun when the job's row was written; undefined for an open poll. */
  handedDuring: number | undefined;
}

export function createSlots({ store, pools, hosts: readHosts, placement: policy }: SlotsOptions): Slots {
  const neverHeld = neverHeldBy(policy);
  const held = new Set<Held>();
  let rows: readonly Occupant[] = [];
  let hosts: readonly HostCapacity[] = [];
  /** Made anew when something has changed. */
  let ledgers: Ledgers | undefined;
  let changed = true;
  let readings = 0;
  const unsubscribe = store.onEvent(({ kind }) => {
    changed ||= kind.startsWith("job:") || kind.startsWith("machine:");
  });

  async function refresh(): Promise<void> {
    hosts = await readHosts();
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
    ledgers ??= ledgersOf(createPlacement(hosts, policy), rows, [...held], pools());
    return ledgers;
  }

  function reserve(pool: Pool): Reservation | undefined {
    const { all } = current();
    if (all.blocker(pool) !== undefined) return undefined;
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
    if (hosts.length === 0) return undefined;
    const problem = createPlacement(hosts, policy).impossible(wantedOf(pool));
    return problem && `a machine of this pool never fits here: ${problem}`;
  }

  return {
    refresh,
    reserve,
    blocker: (pool) => current().all.blocker(pool),
    impossible,
    neverHeld: (wanted) => neverHeld(hosts, wanted),
    fitsOneOfEach: (wanted) => current().existing.fitsOneOfEach(wanted),
    close: () => void unsubscribe(),
  };
}

/** Asked of every job that waits, so the hosts are gone through once for each reading of them. */
function neverHeldBy(policy: PlacementPolicy) {
  let known: { readonly hosts: readonly HostCapacity[]; readonly placement: Placement } | undefined;
  return (hosts: readonly HostCapacity[], wanted: Wanted): string | undefined => {
    if (hosts.length === 0) return undefined;
    if (known?.hosts !== hosts)
      known = { hosts, placement: createPlacement(hosts.map(withoutDiskLimit), policy) };
    return known.placement.impossible(wanted);
  };
}

function withoutDiskLimit(host: HostCapacity): HostCapacity {
  return { ...host, capacity: { ...host.capacity, diskMib: undefined } };
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

/** What is taken, on hosts and of the pools' limits. */
interface Ledger {
  add(occupant: Occupant, pools: ReadonlyMap<string, Pool>): void;
  take(pool: Pool): void;
  blocker(pool: Pool): string | undefined;
  fitsOneOfEach(pools: readonly Pool[]): boolean;
  clone(): Ledger;
}

function createLedger(placement: Placement, counts: Map<string, number>): Ledger {
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
    blocker: (pool) => atLimit(pool) ?? placement.blocker(wantedOf(pool)),
    fitsOneOfEach(pools) {
      const trial = placement.clone();
      return pools
        .filter((pool) => atLimit(pool) === undefined)
        .every((pool) => trial.place(wantedOf(pool)) !== undefined);
    },
    clone: () => createLedger(placement.clone(), new Map(counts)),
  };
}

/** Somebody who holds a slot. */
interface Occupant {
  /** The key of the host; undefined for a job that has none yet. */
  readonly host: string | undefined;
  readonly pool: string;
  /** The job that it counts for in the pool's limit; null for a machine without its job. */
  readonly jobId: number | null;
  readonly size: Size;
  /** A machine that its host has yet to make. */
  readonly isBeingMade: boolean;
}

/**
 * Who holds slots according to the rows. Every machine that is not gone holds one; so does a job that has yet to get a machine,
 * or whose machine is being destroyed before it took the payload. A job and its machine are one.
 */
export function occupants(jobs: readonly Job[], machines: readonly Machine[]): Occupant[] {
  const holding = jobs.filter((job) => slotHoldingJobStates.includes(job.state));
  const unserved = new Map(holding.map((job) => [job.id, job]));
  const ofMachines = machines.map((machine): Occupant => {
    const { pool, size, jobId, state } = machine;
    const job = jobId === null ? undefined : unserved.get(jobId);
    const serves = job !== undefined && (state !== "stopping" || job.state === "running");
    if (serves) unserved.delete(job.id);
    const isBeingMade = state === "creating";
    const at = { host: hostKey(machine), size, isBeingMade };
    return { ...at, pool: job?.pool ?? pool, jobId: serves ? job.id : null };
  });
  // A running job without a machine is about to fail and gets no other.
  const ofJobs = [...unserved.values()]
    .filter(({ state }) => state !== "running")
    .map(({ id, pool, size }): Occupant => ({ host: undefined, pool, jobId: id, size, isBeingMade: false }));
  return [...ofMachines, ...ofJobs];
}

/** Jobs of each pool that count towards its limit. */
function countByPool(taken: readonly Occupant[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { pool, jobId } of taken) if (jobId !== null) counts.set(pool, (counts.get(pool) ?? 0) + 1);
  return counts;
}

/** Why a pool with so many jobs gets no more. */
function limitBlocker(pool: Pool, count: number): string | undefined {
  if (count < pool.concurrency) return undefined;
  return `the pool's limit of ${pool.concurrency} jobs at one time is reached`;
}

/** What a machine of the pool asks of its host. */
function wantedOf({ driver, image, size, hostLabels }: Pool): Wanted {
  return { driver, image, size, hostLabels };
}
