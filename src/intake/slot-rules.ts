import type { Pool } from "../lifecycle/pool.ts";
import { type Capacity, describeSize, fits, occupied, type Size } from "../lifecycle/size.ts";
import { slotHoldingJobStates } from "../lifecycle/states.ts";
import type { Job, Machine } from "../store/store.ts";

/** Somebody who holds a slot. `pool` counts towards the pool's limit of jobs; a machine without its job does not. */
export interface Occupant {
  readonly driver: string;
  readonly pool: string | undefined;
  readonly jobId: number | null;
  readonly size: Size;
}

const nothing: Capacity = { cpus: 0, memoryMib: 0, machines: 0 };

/**
 * Who holds slots according to the rows. Every machine that is not gone holds one; so does a job that has yet to get a machine,
 * or whose machine is being destroyed before it took the payload. A job and its machine are one.
 */
export function occupants(
  jobs: readonly Job[],
  machines: readonly Machine[],
  driverOf: (pool: string) => string | undefined,
): Occupant[] {
  const holding = jobs.filter((job) => slotHoldingJobStates.includes(job.state));
  const unserved = new Map(holding.map((job) => [job.id, job]));
  const ofMachines = machines.map(({ driver, size, jobId, state }): Occupant => {
    const job = jobId === null ? undefined : unserved.get(jobId);
    const serves = job !== undefined && (state !== "stopping" || job.state === "running");
    if (serves) unserved.delete(job.id);
    return { driver, size, pool: serves ? job.pool : undefined, jobId: serves ? job.id : null };
  });
  const ofJobs = [...unserved.values()].flatMap(({ id, pool, size, state }): Occupant[] => {
    const driver = driverOf(pool);
    // A running job without a machine is about to fail and gets no other.
    return driver === undefined || state === "running" ? [] : [{ driver, pool, jobId: id, size }];
  });
  return [...ofMachines, ...ofJobs];
}

/** Why a machine of the pool does not fit beside what is taken, in words; undefined when it fits. */
export function obstacleFor(
  pool: Pool,
  taken: readonly Occupant[],
  capacity: Capacity = nothing,
): string | undefined {
  if (atLimit(pool, taken)) return `the pool's limit of ${pool.concurrency} jobs at one time is reached`;
  const used = usedOf(pool.driver, taken);
  if (fits(capacity, used, pool.size)) return undefined;
  return `no room for ${describeSize(pool.size)}: ${describeUse(used, capacity)}`;
}

/** True when one more machine of each pool fits, pools that have reached their limit of jobs left out. */
export function coversEach(
  pools: readonly Pool[],
  taken: readonly Occupant[],
  capacities: ReadonlyMap<string, Capacity>,
): boolean {
  const wanted = pools.filter((pool) => !atLimit(pool, taken)).map(asOccupant);
  return [...capacities].every(([driver, capacity]) => {
    const used = usedOf(driver, [...taken, ...wanted]);
    const { cpus, memoryMib, machines } = capacity;
    return used.cpus <= cpus && used.memoryMib <= memoryMib && used.machines <= machines;
  });
}

export function asOccupant({ driver, name, size }: Pool): Occupant {
  return { driver, pool: name, jobId: null, size };
}

function atLimit(pool: Pool, taken: readonly Occupant[]): boolean {
  return taken.filter((occupant) => occupant.pool === pool.name).length >= pool.concurrency;
}

function usedOf(driver: string, taken: readonly Occupant[]): Capacity {
  return occupied(taken.filter((occupant) => occupant.driver === driver).map(({ size }) => size));
}

function describeUse(used: Capacity, capacity: Capacity): string {
  const memory = `${used.memoryMib} of ${capacity.memoryMib} MiB`;
  return `${used.cpus} of ${capacity.cpus} CPUs, ${memory} and ${used.machines} of ${capacity.machines} machines are taken`;
}
