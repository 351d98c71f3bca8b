import type { Pool } from "../lifecycle/pool.ts";
import type { Capacity } from "../lifecycle/size.ts";
import type { Store } from "../store/store.ts";
import { asOccupant, coversEach, type Occupant, obstacleFor, occupants } from "./slot-rules.ts";

/**
 * The ledger of slots: what is free is the capacity, minus every machine that is not gone, minus every job that still needs a
 * machine, minus every poll that may bring a job. The first two are read from the store's rows, so the ledger cannot drift.
 */
export interface Slots {
  /** Reads capacity and rows, if rows have changed. Throws what the store or the driver throws. */
  refresh(): Promise<void>;
  /** Takes a slot for one poll, or answers undefined when `obstacle` has something to say. */
  reserve(pool: Pool): Reservation | undefined;
  /** Why no slot can be had now, in words. */
  obstacle(pool: Pool): string | undefined;
  /** Why no slot could be had even if nothing ran, in words. */
  impossible(pool: Pool): string | undefined;
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
  /** What all machines of a driver may take together on this computer. */
  readonly capacityOf: (driver: string) => Promise<Capacity>;
}

interface Held extends Occupant {
  jobId: number | null;
  /** The number of the reading that was last begun when the job's row was written; undefined for an open poll. */
  handedDuring: number | undefined;
}

export function createSlots({ store, pools, capacityOf }: SlotsOptions): Slots {
  const held = new Set<Held>();
  let rows: readonly Occupant[] = [];
  let capacities: ReadonlyMap<string, Capacity> = new Map();
  let changed = true;
  let readings = 0;
  const forget = store.onEvent(({ kind }) => {
    changed ||= kind.startsWith("job:") || kind.startsWith("machine:");
  });

  async function refresh(): Promise<void> {
    const known = [...pools().values()].every((pool) => capacities.has(pool.driver));
    if (!changed && known) return;
    changed = false;
    const reading = ++readings;
    try {
      [rows, capacities] = await read({ store, pools, capacityOf });
    } catch (error) {
      changed = true;
      throw error;
    }
    for (const each of held) {
      // A reading begun before the row was written may have missed it.
      if (each.handedDuring !== undefined && each.handedDuring < reading) held.delete(each);
    }
  }

  function existing(): Occupant[] {
    const inRows = new Set(rows.map((row) => row.jobId));
    return [...rows, ...[...held].filter(({ jobId }) => jobId !== null && !inRows.has(jobId))];
  }

  function obstacle(pool: Pool): string | undefined {
    const polls = [...held].filter(({ jobId }) => jobId === null);
    return obstacleFor(pool, [...existing(), ...polls], capacities.get(pool.driver));
  }

  function reserve(pool: Pool): Reservation | undefined {
    if (obstacle(pool) !== undefined) return undefined;
    const own: Held = { ...asOccupant(pool), handedDuring: undefined };
    held.add(own);
    return {
      handTo(jobId) {
        own.jobId = jobId;
        own.handedDuring = readings;
        changed = true;
      },
      release() {
        held.delete(own);
      },
    };
  }

  function impossible(pool: Pool): string | undefined {
    const capacity = capacities.get(pool.driver);
    const problem = capacity && obstacleFor(pool, [], capacity);
    return problem && `a machine of this pool never fits here: ${problem}`;
  }

  const coverEach = (wanted: readonly Pool[]) => coversEach(wanted, existing(), capacities);
  return { refresh, reserve, obstacle, impossible, coverEach, close: () => void forget() };
}

async function read(options: SlotsOptions): Promise<[Occupant[], Map<string, Capacity>]> {
  const { store, capacityOf } = options;
  const pools = options.pools();
  const drivers = [...new Set([...pools.values()].map((pool) => pool.driver))];
  const capacities = await Promise.all(drivers.map(async (name) => [name, await capacityOf(name)] as const));
  // Jobs first: a job that gets its machine in between is then seen at least once, and never lost between the two.
  const jobs = await store.jobs({ unfinished: true });
  const machines = await store.machines({ live: true });
  return [occupants(jobs, machines, (pool) => pools.get(pool)?.driver), new Map(capacities)];
}
