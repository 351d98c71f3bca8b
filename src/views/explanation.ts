import { formatDuration } from "../base/units.ts";
import type { LifecycleEvent } from "../domain/events.ts";
import { causeOf, failures } from "../domain/job-end.ts";
import { isLocalHost, LOCAL_HOST } from "../domain/placement.ts";
import type { JobState } from "../domain/states.ts";
import type { Job } from "../store/store.ts";
import type { Explanation } from "./api.ts";

/** Says in words where a job stands or how it ended, from its row and its events alone. Pure. */
export function explainJob(job: Job, events: readonly LifecycleEvent[], now: number): Explanation {
  return job.state === "finished" ? explainEnd(job, events) : explainUnfinished(job, events, now);
}

const standing: Readonly<Record<Exclude<JobState, "finished">, string>> = {
  claimed: "has been claimed and waits for a machine",
  starting: "has a machine that is starting",
  running: "runs",
  failing: "has failed, and GitLab is being told",
};

function explainUnfinished(job: Job, events: readonly LifecycleEvent[], now: number): Explanation {
  const since = {
    claimed: job.claimedAt,
    starting: job.startingAt,
    running: job.runningAt,
    failing: job.failingAt,
  };
  const state = job.state as Exclude<JobState, "finished">;
  const forMs = now - (since[state] ?? job.claimedAt);
  return {
    summary: `Job ${job.id} ${standing[state]}, for ${formatDuration(Math.max(0, forMs))}${machineOf(job)}.`,
    cause: job.reason ?? lastTrouble(events),
    advice: adviceForUnfinished(job, elsewhere(events)),
  };
}

function machineOf(job: Job): string {
  return job.machineId === null || job.state === "failing"
    ? ""
    : ` (${job.machineId}, attempt ${job.attempt})`;
}

/** The host of the job's last machine, where that is not this computer. */
function elsewhere(events: readonly LifecycleEvent[]): string | undefined {
  const last = events.findLast((event) => event.kind === "job:starting");
  const host = last?.kind === "job:starting" ? last.detail.host : LOCAL_HOST;
  return isLocalHost(host) ? undefined : host;
}

function adviceForUnfinished(job: Job, host: string | undefined): string[] {
  switch (job.state) {
    case "claimed":
      return ["“firerunner status” shows whether its pool can start machines and what is taken."];
    case "starting":
    case "running":
      if (host !== undefined)
        return [
          `Its machine is on ${host}, which shows no console here; “firerunner hosts” says how ${host} is.`,
        ];
      return [`“firerunner logs ${job.machineId ?? "MACHINE"} -f” follows its machine's console.`];
    default:
      return ["Nothing: the report is repeated until GitLab has taken it."];
  }
}

function explainEnd(job: Job, events: readonly LifecycleEvent[]): Explanation {
  const ran = job.runningAt === null ? undefined : (job.finishedAt ?? job.runningAt) - job.runningAt;
  const after = ran === undefined ? "before its machine took it" : `after ${formatDuration(ran)}`;
  switch (job.result) {
    case "success":
      return { summary: `Job ${job.id} succeeded ${after}.`, cause: null, advice: [] };
    case "canceled":
      return { summary: `Job ${job.id} was canceled in GitLab ${after}.`, cause: job.reason, advice: [] };
    case "failed":
      return explainFailure(job, events, after);
    default:
      return {
        summary: `Job ${job.id} was ended by GitLab ${after}, which did not say how.`,
        cause: job.reason,
        advice: ["The job's page in GitLab has its state; it was perhaps deleted there."],
      };
  }
}

function explainFailure(job: Job, events: readonly LifecycleEvent[], after: string): Explanation {
  const { summary, advice, isWorthRetry } = failures[causeOf(job)];
  return {
    summary: `Job ${job.id} ${summary} ${after}.`,
    cause: job.reason ?? (hadNoMemory(events) ? noMemoryWords : null),
    advice: [
      ...(hadNoMemory(events) ? [failures.memory.hint] : []),
      ...adviceByEvents(job, events),
      ...adviceThere(job, elsewhere(events), advice),
      ...(isWorthRetry ? [retryAdvice] : []),
    ],
  };
}

const retryAdvice =
  "The job can be retried in GitLab; adding “retry: { when: runner_system_failure }” to it does so by itself.";

const noMemoryWords =
  "its machine had no memory left, and the machine's kernel ended what used most of it in the script";

function hadNoMemory(events: readonly LifecycleEvent[]): boolean {
  return events.some(({ kind }) => kind === "machine:out-of-memory");
}

/** How far the machines of a job came that never got its payload to one. */
function adviceByEvents(job: Job, events: readonly LifecycleEvent[]): string[] {
  const has = (kind: LifecycleEvent["kind"]) => events.some((event) => event.kind === kind);
  if (job.runningAt !== null || causeOf(job) === "unservable") return [];
  if (has("machine:create-failed") && !has("machine:booting")) return [noMachineAdvice(elsewhere(events))];
  const host = elsewhere(events);
  if (has("machine:booting") && !has("machine:heard") && host !== undefined)
    return [
      `Its machine on ${host} never spoke: “firerunner hosts check ${host}” shows whether one comes up there and reaches the relay.`,
    ];
  if (has("machine:booting") && !has("machine:heard"))
    return [
      "Its machines never spoke: “firerunner image verify” and the console lines above say whether they boot.",
    ];
  return [];
}

function noMachineAdvice(host: string | undefined): string {
  return host === undefined
    ? "No machine could be created: “firerunner doctor” says what this computer lacks."
    : `No machine could be created: “firerunner hosts” says what is wrong with ${host}, “firerunner hosts check ${host}” tries it.`;
}

/** What is to be looked at is where the machine was. */
function adviceThere(job: Job, host: string | undefined, here: readonly string[]): readonly string[] {
  if (host === undefined || job.runningAt === null || causeOf(job) !== "machine") return here;
  return [
    `Its machine was on ${host}: its console is there (firecracker.stdout below /var/lib/flintlock/vm), and that host's kernel log says whether something killed its process; “firerunner hosts” says how ${host} is.`,
  ];
}

/** The last thing that went wrong, for a job that is still being worked on. */
function lastTrouble(events: readonly LifecycleEvent[]): string | null {
  const last = events.findLast(
    (event) =>
      event.kind === "job:retried" ||
      event.kind === "machine:create-failed" ||
      event.kind === "job:report-failed",
  );
  if (last === undefined) return null;
  return last.kind === "job:retried" ? last.detail.reason : (last.detail as { error: string }).error;
}
