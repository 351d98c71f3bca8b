/** What stands in a job's way just now, in words: the part of `why` that only the running scheduler knows. */
import { formatDuration } from "../base/units.ts";
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

/** Of a job without a machine: what all hosts have against it. Of others: what is wrong with the host of its machine. */
function hostProblems(job: Job, { hosts, obstacles, places }: SchedulerStatus): string[] {
  const obstacle = obstacles.get(job.id);
  if (obstacle !== undefined) return [obstacle];
  const place = hosts.find(({ key }) => key === places.get(job.id));
  if (place?.problem === undefined) return [];
  return [`${place.key}: ${place.problem}${place.hint ? ` (${place.hint})` : ""}`];
}

function poolProblems(job: Job, { pools }: SchedulerStatus): string[] {
  const pool = pools.find((each) => each.pool === job.pool);
  if (!pool) return [`its pool ${job.pool} is not configured any more`];
  return pool.problems.map(({ problem, hint }) => `pool ${job.pool}: ${problem}${hint ? ` (${hint})` : ""}`);
}
