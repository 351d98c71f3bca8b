/**
 * Whether every job had its end, once, and nothing is left. What became of jobs is judged by GitLab's own records and by what was in its
 * logs; the store is asked only for what it must not have any more.
 */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { endStates, type Job } from "@firerunner/gitlab-stand-in/model";
import type { GuestRun } from "../harness/fleet-guests.ts";
import { processesNaming } from "../harness/installation.ts";

/** Each entry names what it is about, in words. */
export interface Verdict {
  /** Jobs without an end, and logs that are not whole though the job succeeded. */
  readonly lost: readonly string[];
  /** Jobs whose script ran more than once, or that two machines were given. */
  readonly doubled: readonly string[];
  /** Machines, processes, sockets, and rows of what is over. */
  readonly left: readonly string[];
  /** Jobs that succeeded in GitLab though no script of theirs ran to its end. */
  readonly untrue: readonly string[];
  /**
   * Jobs that GitLab gave away in an answer that never arrived, since the manager was killed or the connection cut at that moment. Its
   * protocol has no way to ask for them; GitLab ends them itself after an hour. They count as neither lost nor ended.
   */
  readonly unheard: readonly string[];
}

interface Judged {
  readonly jobs: readonly Job[];
  readonly runs: readonly GuestRun[];
  readonly firstWords: string;
  readonly lastWords: string;
  /** Why an answer to the claim at this time may have gone astray; undefined when nothing was in its way. */
  readonly astray: (claimedAt: number) => string | undefined;
  readonly left: readonly string[];
}

export function judge({ jobs, runs, firstWords, lastWords, astray, left }: Judged): Verdict {
  const verdict = {
    lost: [] as string[],
    doubled: [] as string[],
    untrue: [] as string[],
    unheard: [] as string[],
  };
  const runsOf = Map.groupBy(runs, ({ jobId }) => jobId);
  for (const job of jobs) {
    const own = runsOf.get(job.id) ?? [];
    const log = job.trace.text();
    const begun = log.split(firstWords).length - 1;
    if (begun > 1) verdict.doubled.push(`job ${job.id}: its script began ${begun} times, says its log`);
    else if (new Set(own.map(({ machineId }) => machineId)).size > 1)
      verdict.doubled.push(`job ${job.id}: ${own.map(({ machineId }) => machineId).join(" and ")} had it`);
    const hasWorked = own.some(({ workedAt }) => workedAt !== undefined);
    if (job.status === "success" && !hasWorked)
      verdict.untrue.push(`job ${job.id} succeeded, its script did not`);
    else if (job.status === "success" && !(begun === 1 && log.includes(lastWords)))
      verdict.lost.push(`job ${job.id}: its log is not whole`);
    if (endStates.includes(job.status)) continue;
    const reason = isUntouched(job) && own.length === 0 ? astray(job.startedAt ?? 0) : undefined;
    if (reason === undefined) verdict.lost.push(`job ${job.id} is ${job.status}`);
    else verdict.unheard.push(`job ${job.id}: ${reason}`);
  }
  return { ...verdict, left };
}

/** Claimed, and nothing was heard of it since. */
function isUntouched(job: Job): boolean {
  return job.status === "running" && job.trace.sizeBytes === 0 && !job.endAnswered;
}

export function isGood({ lost, doubled, left, untrue }: Verdict): boolean {
  return [lost, doubled, left, untrue].every(({ length }) => length === 0);
}

/** Of a program that has ended: its processes, its sockets, and rows that speak of what is over. */
export function leftovers(directory: string, state: string): string[] {
  return [
    ...processesNaming(directory, state).map(({ pid, command }) => `process ${pid}: ${command.slice(0, 60)}`),
    ...socketsIn(state).map((path) => `socket ${path}`),
    ...rowsLeft(join(state, "firerunner.db")),
  ];
}

function socketsIn(state: string): string[] {
  const paths = readdirSync(state, { recursive: true, encoding: "utf8" });
  return paths.filter((path) => statSync(join(state, path), { throwIfNoEntry: false })?.isSocket());
}

const rows: Readonly<Record<string, string>> = {
  "job that has not ended": "select count(*) as n from jobs where state <> 'finished'",
  "machine that is not gone": "select count(*) as n from machines where state <> 'gone'",
  "payload that was not erased": "select count(*) as n from payloads",
  "secret of a machine's link": "select count(*) as n from machine_links",
};

function rowsLeft(file: string): string[] {
  const db = new DatabaseSync(file, { readOnly: true });
  try {
    return Object.entries(rows).flatMap(([what, query]) => {
      const n = Number(db.prepare(query).get()?.["n"]);
      return n > 0 ? [`${n} × row of a ${what}`] : [];
    });
  } finally {
    db.close();
  }
}
