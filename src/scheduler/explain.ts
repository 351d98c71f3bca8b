/** What stands in a job's way just now, in words: the part of `why` that only the running scheduler knows. */
import { formatDuration, formatMib } from "../base/units.ts";
import type { Job } from "../store/store.ts";
import type { SchedulerStatus } from "./status.ts";

/** Empty when nothing is in the way, and for a finished job. */
export function hindrancesOf(job: Job, status: SchedulerStatus, now: number): string[] {
  if (job.state === "finished") return [];
  const hindrances = [...troubledWork(job, status, now), ...hostProblems(job, status)];
  if (status.lastRound?.error !== undefined)
    hindrances.push(`the last round failed: ${status.lastRound.error}`);
  const needsMachine = job.state === "claimed" || job.state === "starting";
  return needsMachine ? [...hindrances, ...poolProblems(job, status)] : hindrances;
}

/** What was tried for this job or its machine, failed, and will be tried again. */
function troubledWork(job: Job, status: SchedulerStatus, now: number): string[] {
  const lanes = [`job:${job.id}`, `standing:${job.id}`, `machine:${job.machineId}`, `stop:${job.machineId}`];
  return status.work
    .filter(({ lane, resting }) => lanes.includes(lane) && resting !== undefined)
    .map(({ name, resting }) => {
      const inMs = Math.max(0, (resting?.until ?? now) - now);
      return `${name} failed (${resting?.failures} times, last: ${resting?.error}) and is tried again in ${formatDuration(inMs)}`;
    });
}

function hostProblems(job: Job, { hosts }: SchedulerStatus): string[] {
  return hosts.flatMap(({ driver, host, problem, capacity, taken }) => {
    if (problem !== undefined) return [`the ${driver} driver on ${host} cannot be asked: ${problem}`];
    if (job.state !== "claimed" || !capacity || taken.machines === 0) return [];
    const isFull =
      taken.machines >= capacity.machines ||
      taken.cpus + job.size.cpus > capacity.cpus ||
      taken.memoryMib + job.size.memoryMib > capacity.memoryMib;
    if (!isFull) return [];
    const memory = `${formatMib(taken.memoryMib)} of ${formatMib(capacity.memoryMib)}`;
    return [
      `${host} is full: ${taken.machines} machines take ${taken.cpus} of ${capacity.cpus} CPUs and ${memory}`,
    ];
  });
}

function poolProblems(job: Job, { pools }: SchedulerStatus): string[] {
  const pool = pools.find((each) => each.pool === job.pool);
  if (!pool) return [`its pool ${job.pool} is not configured any more`];
  return pool.problems.map(({ problem, hint }) => `pool ${job.pool}: ${problem}${hint ? ` (${hint})` : ""}`);
}
