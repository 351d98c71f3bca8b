/**
 * Why a job is where it is, or ended as it did, and what to do about it: for `why` and the JSON behind it. First of jobs that were claimed here,
 * then of those that were not and wait in GitLab. From rows and events alone, so that it can be told of an ended FireRunner too.
 */
import { formatDuration } from "../base/units.ts";
import type { LifecycleEvent } from "../domain/events.ts";
import { causeOf, failures } from "../domain/job-end.ts";
import { isLocalHost, LOCAL_HOST } from "../domain/placement.ts";
import type { JobState } from "../domain/states.ts";
import type { Job } from "../store/store.ts";
import type { Explanation, WaitingJob } from "./api.ts";

/** Returns where a job is or how it ended, in words, from its row and its events alone. Pure. */
export function explainJob(job: Job, events: readonly LifecycleEvent[], now: number): Explanation {
  return job.state === "finished" ? explainEnd(job, events) : explainUnfinished(job, events, now);
}

const stateText: Readonly<Record<Exclude<JobState, "finished">, string>> = {
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
  const isFetching = state === "starting" && waitsForImages(job, events);
  return {
    summary: `Job ${job.id} ${isFetching ? "waits for the images that it names" : stateText[state]}, for ${formatDuration(Math.max(0, forMs))}${machineOf(job)}.`,
    cause: job.reason ?? lastProblem(events),
    advice: isFetching ? [imagesAdvice] : adviceForUnfinished(job, elsewhere(events)),
  };
}

const imagesAdvice =
  "Its log in GitLab says how far they have come; “containers.pullDeadline” of its pool says how long that may take.";

function waitsForImages({ machineId }: Job, events: readonly LifecycleEvent[]): boolean {
  const last = events.findLast(
    ({ kind, machineId: about }) =>
      about === machineId && (kind === "machine:fetching" || kind === "machine:images-here"),
  );
  return last?.kind === "machine:fetching";
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
    case "running": {
      const following =
        job.state === "running" ? [`“firerunner logs ${job.id} -f” follows what it writes.`] : [];
      return [...following, consoleAdvice(job, host)];
    }
    default:
      return ["Nothing: the report is repeated until GitLab has taken it."];
  }
}

function consoleAdvice({ machineId }: Job, host: string | undefined): string {
  return host === undefined
    ? `“firerunner logs ${machineId ?? "MACHINE"} -f” follows its machine's console.`
    : `Its machine is on ${host}, which shows no console here; “firerunner hosts” says how ${host} is.`;
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
    cause: job.reason ?? (hadNoMemory(events) ? noMemoryText : null),
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

const noMemoryText =
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
function lastProblem(events: readonly LifecycleEvent[]): string | null {
  const last = events.findLast(
    (event) =>
      event.kind === "job:retried" ||
      event.kind === "machine:create-failed" ||
      event.kind === "job:report-failed",
  );
  if (last === undefined) return null;
  return last.kind === "job:retried" ? last.detail.reason : (last.detail as { error: string }).error;
}

const statusByKind = {
  "job:noticed": "waiting",
  "job:left-alone": "left-alone",
  "job:no-longer-pending": "gone",
} as const;

type Told = Extract<LifecycleEvent, { kind: keyof typeof statusByKind }>;

/** What the events say of a job that waits in GitLab or did so, and was never claimed here. Undefined when they know nothing of it. */
export function waitingJob(id: number, events: readonly LifecycleEvent[]): WaitingJob | undefined {
  const told = events.filter((event): event is Told => event.kind in statusByKind);
  const first = told[0];
  const last = told.at(-1);
  const about = told.findLast((event) => event.kind !== "job:no-longer-pending")?.detail;
  if (!first || !last || !about) return undefined;
  const { project, name, tags } = about;
  return { id, project, name, tags: [...tags], standing: statusByKind[last.kind], noticedAt: first.at };
}

/** For a job that is in no event. */
export function unseenJob(id: number): WaitingJob {
  return { id, project: "", name: "", tags: [], standing: "unseen", noticedAt: null };
}

/** `told`: what the running program knows of its wait, in words; empty when none runs, or when it knows of nothing. Pure. */
export function explainWaiting(
  job: WaitingJob,
  events: readonly LifecycleEvent[],
  told: readonly string[],
  now: number,
): Explanation {
  switch (job.standing) {
    case "waiting":
      return {
        summary: `Job ${job.id} waits in GitLab for a runner of ours, noticed ${formatDuration(Math.max(0, now - (job.noticedAt ?? now)))} ago.`,
        cause: told.join("; ") || null,
        advice: [
          "“firerunner runner list” shows the runners, “firerunner status” whether machines of its size can be started.",
        ],
      };
    case "left-alone": {
      const reason = reasonIn(events);
      return {
        summary: `Job ${job.id} is left to wait in GitLab: no machine of ours can run it.`,
        cause: [reason, ...told.filter((each) => each !== reason)].join("; ") || null,
        advice: adviceForTags(job, reason),
      };
    }
    case "gone":
      return {
        summary: `Job ${job.id} does not wait in GitLab any more, and was not claimed here.`,
        cause: told.join("; ") || null,
        advice: ["Another runner took it, or it was canceled or deleted: its page in GitLab says which."],
      };
    case "unseen":
      return {
        summary: `Job ${job.id} was neither claimed nor seen waiting here.`,
        cause: told.join("; ") || null,
        advice: ["“firerunner webhook status” shows which projects are known and whether their hooks work."],
      };
  }
}

function adviceForTags({ tags }: WaitingJob, reason: string): string[] {
  const key = /webhook\.[a-z.]*[a-z]/i.exec(reason)?.[0];
  const correct = `Correct the job's tags in .gitlab-ci.yml (${tags.join(", ")}); docs/webhooks.md has their grammar.`;
  return key === undefined
    ? [correct]
    : [correct, `Or let such jobs in: change ${key}, then “firerunner reload”.`];
}

function reasonIn(events: readonly LifecycleEvent[]): string {
  const last = events.findLast((event) => event.kind === "job:left-alone");
  return last?.kind === "job:left-alone" ? last.detail.reason : "";
}
