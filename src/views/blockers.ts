/** What stands in a job's way just now, in words: the part of `why` that only the running scheduler knows. */
import { formatDuration } from "../base/units.ts";
import type { Job } from "../store/store.ts";
import type { SchedulerState } from "./ports.ts";

/** Empty when nothing is in the way, and for a finished job. */
export function blockersOf(job: Job, status: SchedulerState, now: number): string[] {
  if (job.state === "finished") return [];
  const blockers = [...failedWork(job, status, now), ...hostProblems(job, status)];
  if (status.lastRound?.error !== undefined)
    blockers.push(`the last round failed: ${status.lastRound.error}`);
  const needsMachine = job.state === "claimed" || job.state === "starting";
  // What is wrong with a host is told once, and with the host.
  const told = blockers.join("; ");
  const news = poolProblems(job, status).flatMap(({ text, bare, hint }) => {
    if (!told.includes(bare)) return [text];
    return hint === undefined || told.includes(hint) ? [] : [hint];
  });
  return needsMachine ? [...blockers, ...news] : blockers;
}

/** What was tried for this job or its machine, failed, and will be tried again. */
function failedWork(job: Job, status: SchedulerState, now: number): string[] {
  const subjects = [String(job.id), job.machineId];
  return status.work
    .filter(({ key, cooldown }) => subjects.includes(subjectOf(key)) && cooldown !== undefined)
    .map(({ name, cooldown }) => {
      const inMs = Math.max(0, (cooldown?.until ?? now) - now);
      return `${name} failed (${cooldown?.failures} times, last: ${cooldown?.error}) and is tried again in ${formatDuration(inMs)}`;
    });
}

/** The id of the job or machine that a task is about. */
function subjectOf(key: string): string {
  return key.slice(key.indexOf(":") + 1);
}

/** Of a job without a machine: what all hosts have against it. Of others: what is wrong with the host of its machine. */
function hostProblems(job: Job, { hosts, blocker, place }: SchedulerState): string[] {
  const against = blocker(job.id);
  if (against !== undefined) return [against];
  const at = place(job.id);
  const host = hosts.find(({ key }) => key === at);
  if (host?.problem === undefined) return [];
  return [`${host.key}: ${host.problem}${host.hint ? ` (${host.hint})` : ""}`];
}

interface PoolProblem {
  readonly text: string;
  /** The problem alone, as it may have been told already. */
  readonly bare: string;
  readonly hint: string | undefined;
}

function poolProblems(job: Job, { pools }: SchedulerState): PoolProblem[] {
  const pool = pools.find((each) => each.pool === job.pool);
  if (!pool) {
    const text = `its pool ${job.pool} is not configured any more`;
    return [{ text, bare: text, hint: undefined }];
  }
  return pool.problems.map(({ problem, hint }) => ({
    hint,
    text: `pool ${job.pool}: ${problem}${hint ? ` (${hint})` : ""}`,
    // Behind the name of the host, and without how long it has lasted.
    bare: problem.slice(problem.indexOf(": ") + 1).replace(/ \((the next machine|tried again).*\)$/, ""),
  }));
}
