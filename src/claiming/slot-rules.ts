import { hostKey, type Wanted } from "../domain/placement.ts";
import type { Pool } from "../domain/pool.ts";
import type { Size } from "../domain/size.ts";
import { slotHoldingJobStates } from "../domain/states.ts";
import type { Job, Machine } from "../store/store.ts";

/** Somebody who holds a slot. */
export interface Occupant {
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
export function countByPool(taken: readonly Occupant[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { pool, jobId } of taken) if (jobId !== null) counts.set(pool, (counts.get(pool) ?? 0) + 1);
  return counts;
}

/** Why a pool with so many jobs gets no more, in words. */
export function limitBlocker(pool: Pool, count: number): string | undefined {
  if (count < pool.concurrency) return undefined;
  return `the pool's limit of ${pool.concurrency} jobs at one time is reached`;
}

/** What a machine of the pool asks of its host. */
export function wantedOf({ driver, image, size, hostLabels }: Pool): Wanted {
  return { driver, image, size, hostLabels };
}
