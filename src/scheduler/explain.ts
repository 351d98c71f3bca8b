/** Why a job waits, or how it came to its end: in words, from what is stored and what the scheduler knows just now. */
import { formatDuration, formatMib } from "../base/units.ts";
import type { LifecycleEvent } from "../lifecycle/events.ts";
import type { Job } from "../store/store.ts";
import type { SchedulerStatus } from "./status.ts";

export interface Explanation {
  /** One sentence: what the job does now, or how it ended. */
  readonly summary: string;
  /** What stands in its way now, or what went wrong; empty when nothing did. */
  readonly causes: readonly string[];
  /** What has happened, oldest first, each with the time since the claim. */
  readonly story: readonly string[];
}

/** `status` is the running scheduler's, or undefined when none runs. `events` are the job's, oldest first. */
export function explainJob(
  job: Job,
  events: readonly LifecycleEvent[],
  status: SchedulerStatus | undefined,
  now: number,
): Explanation {
  return {
    summary: summaryOf(job, now),
    causes: causesOf(job, events, status, now),
    story: events.flatMap((event) => storyOf(job, event)),
  };
}

function summaryOf(job: Job, now: number): string {
  const name = `job ${job.id} (${job.name})`;
  const since = (at: number | null) => formatDuration(now - (at ?? job.claimedAt));
  switch (job.state) {
    case "claimed":
      return `${name} has been waiting for a machine for ${since(job.claimedAt)}`;
    case "starting":
      return `${name} has been waiting for ${since(job.startingAt)} for its machine ${job.machineId} to take it`;
    case "running":
      return `${name} has been running on machine ${job.machineId} for ${since(job.runningAt)}`;
    case "failing":
      return `${name} has failed, and GitLab has not yet acknowledged it: ${job.reason ?? "no reason was recorded"}`;
    case "finished":
      return `${name} ended: ${endOf(job)}`;
  }
}

function endOf({ result, reason }: Job): string {
  const words = {
    success: "success",
    failed: "failed",
    canceled: "canceled",
    unknown: "GitLab does not say how",
  };
  const end = words[result ?? "unknown"];
  if (reason !== null) return `${end}, because ${reason}`;
  return result === "failed" ? "failed by its own script; see its log in GitLab" : end;
}

function causesOf(
  job: Job,
  events: readonly LifecycleEvent[],
  status: SchedulerStatus | undefined,
  now: number,
): string[] {
  if (job.state === "finished") return job.result === "failed" ? consoleOf(events) : [];
  if (!status) return ["FireRunner is not running: start it, and it goes on with this job"];
  const causes = [...troubledWork(job, status, now), ...hostProblems(job, status)];
  if (status.lastRound?.error !== undefined) causes.push(`the last round failed: ${status.lastRound.error}`);
  if (job.state === "failing") return [...causes, ...reportProblems(job, events, now)];
  if (job.state === "running") return causes;
  return [...causes, ...poolProblems(job, status)];
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

function reportProblems(job: Job, events: readonly LifecycleEvent[], now: number): string[] {
  const last = events.findLast((event) => event.kind === "job:report-failed");
  if (!last) return [];
  const inMs = Math.max(0, (job.reportAt ?? now) - now);
  return [`GitLab could not be told: ${last.detail.error}; tried again in ${formatDuration(inMs)}`];
}

function consoleOf(events: readonly LifecycleEvent[]): string[] {
  const last = events.findLast((event) => event.kind === "machine:console");
  return last ? [`last lines of the console of ${last.machineId}:\n${last.detail.text}`] : [];
}

function storyOf(job: Job, event: LifecycleEvent): string[] {
  const words = wordsFor(event);
  return words === undefined ? [] : [`${formatDuration(event.at - job.claimedAt)}: ${words}`];
}

function wordsFor(event: LifecycleEvent): string | undefined {
  const machine = `machine ${event.machineId}`;
  switch (event.kind) {
    case "job:claimed":
      return `claimed for pool ${event.detail.pool} with runner ${event.detail.runner}`;
    case "job:starting":
      return `attempt ${event.detail.attempt}: ${machine} on ${event.detail.host}`;
    case "job:running":
      return `${machine} has the job`;
    case "job:retried":
      return `given up on ${machine}: ${event.detail.reason}`;
    case "job:failing":
      return `failed: ${event.detail.reason}`;
    case "job:finished":
      return `ended in GitLab: ${event.detail.result}`;
    case "job:report-failed":
      return `GitLab could not be told: ${event.detail.error}`;
    default:
      return machineWords(event, machine);
  }
}

function machineWords(event: LifecycleEvent, machine: string): string | undefined {
  switch (event.kind) {
    case "machine:booting":
      return `${machine} runs`;
    case "machine:heard":
      return `${machine} was heard for the first time`;
    case "machine:stopping":
      return `${machine} is stopped: ${event.detail.reason}`;
    case "machine:gone":
      return `${machine} is gone`;
    case "machine:adopted":
      return `FireRunner was restarted and took ${machine} over (${event.detail.state})`;
    case "machine:create-failed":
      return `${machine} could not be started: ${event.detail.error}`;
    case "machine:destroy-failed":
      return `${machine} could not be destroyed: ${event.detail.error}`;
    case "egress:refused":
      return `${machine} was refused a connection to ${event.detail.target}: ${event.detail.reason}`;
    case "guest:refused":
      return `${machine} broke a rule of the relay: ${event.detail.rule}`;
    default:
      return undefined;
  }
}
