/** The trace of a job, made of its events alone: pure, so that whoever makes it anew makes the same. */
import { type EventKind, type EventOf, type LifecycleEvent, lastOf } from "../../domain/events.ts";
import { causeOf, type FailureCause } from "../../domain/job-end.ts";
import { spanIdOf, type TraceContext, WORK_SPAN } from "../../domain/trace-context.ts";

/** A job that has ended and of which no machine is left. */
export interface DueTrace extends TraceContext {
  readonly jobId: number;
  readonly pipelineId: number | null;
  readonly projectId: number | null;
}

/** The same, with what its spans say besides. */
export interface TracedJob extends DueTrace {
  readonly stage: string;
  /** Of GitLab, without a slash at the end. */
  readonly gitlabUrl: string;
}

/** Times are epoch ms. */
export interface Span {
  readonly traceId: string;
  readonly spanId: string;
  /** Null for the first of a trace. */
  readonly parentSpanId: string | null;
  readonly name: string;
  readonly startAt: number;
  readonly endAt: number;
  readonly attributes: Attributes;
  /** Why it did not end well, in words; undefined when it did, or was called off. */
  readonly problem: string | undefined;
}

export type Attributes = Readonly<Record<string, string | number>>;

/** The events that a trace is made of. */
export const kindsOfStory = [
  "job:claimed",
  "job:running",
  "job:retried",
  "job:failing",
  "job:finished",
  "machine:creating",
  "machine:fetching",
  "machine:images-here",
  "machine:booting",
  "machine:heard",
  "machine:ready",
  "machine:stopping",
  "machine:gone",
] as const satisfies readonly EventKind[];

/** A job that no host wants to make a machine for may have tried very many: of more than these the last ones are told. */
const MOST_MACHINES = 16;
/** Names and reasons are other people's words. */
const LONGEST_TEXT = 1_024;

interface Story {
  readonly job: TracedJob;
  readonly history: readonly LifecycleEvent[];
  readonly claimed: EventOf<"job:claimed">;
  readonly finished: EventOf<"job:finished">;
}

/** A part of a job's life before it has ids. */
type Part = Pick<Span, "name" | "startAt" | "endAt"> &
  Partial<Pick<Span, "attributes" | "problem">> & { readonly machineId?: string };

/** The root first, then its children as they began. Empty when the events do not tell of the job's claim and end any more. */
export function composeSpans(job: TracedJob, history: readonly LifecycleEvent[]): readonly Span[] {
  const claimed = lastOf(history, "job:claimed");
  const finished = lastOf(history, "job:finished");
  if (!claimed || !finished) return [];
  const story = { job, history, claimed, finished };
  const root = rootOf(story);
  const parts = [
    ...waitParts(story, root.startAt),
    ...machinesOf(story).flatMap((machine) => machineParts(story, machine)),
    ...endParts(story),
  ];
  const children = parts
    .map((part) => spanOf(job, part, root.spanId))
    .toSorted((a, b) => a.startAt - b.startAt || a.endAt - b.endAt);
  return [root, ...children];
}

function spanOf(job: TracedJob, part: Part, parentSpanId: string | null): Span {
  const { name, startAt, endAt, attributes = {}, problem, machineId } = part;
  return {
    traceId: job.traceId,
    spanId: spanIdOf(job.traceId, job.jobId, name, machineId),
    ...{ parentSpanId, name, attributes },
    startAt: Math.round(startAt),
    // A clock that was set back must not make a span that ends before it begins.
    endAt: Math.round(Math.max(startAt, endAt)),
    problem: problem && cut(problem),
  };
}

/** From when the job began to wait in GitLab until GitLab had its end; what its machine needs to go is no part of it. */
function rootOf(story: Story): Span {
  const { job, claimed, finished } = story;
  const startAt = Math.max(0, claimed.at - (claimed.detail.queuedMs ?? claimed.detail.pollMs));
  const { result, error } = outcomeOf(finished);
  const problem = problemOfJob(finished);
  const part = {
    name: "job",
    startAt,
    endAt: finished.at,
    problem,
    attributes: aboutJob(story, result, error),
  };
  return spanOf(job, part, job.parentSpanId);
}

/** The values of OpenTelemetry's `cicd.pipeline.task.run.result`, by what a failure is blamed on. */
const resultByCause: Partial<Record<FailureCause, string>> = {
  script: "failure",
  image: "failure",
  "time-limit": "timeout",
};

function outcomeOf({ detail }: EventOf<"job:finished">): { result: string; error: string | undefined } {
  const { result, reason = null, cause = null } = detail;
  if (result === "success") return { result, error: undefined };
  if (result === "canceled") return { result: "cancellation", error: undefined };
  if (result === "unknown") return { result: "error", error: "unknown" };
  const error = causeOf({ reason, cause });
  return { result: resultByCause[error] ?? "error", error };
}

function problemOfJob(finished: EventOf<"job:finished">): string | undefined {
  const { error } = outcomeOf(finished);
  return error === undefined ? undefined : (finished.detail.reason ?? `the job ended with ${error}`);
}

/** In OpenTelemetry's words for CI/CD, with GitLab's ids and what is ours beside them. */
function aboutJob(story: Story, result: string, error: string | undefined): Attributes {
  const { job, history, claimed } = story;
  const { jobId, pipelineId, projectId, stage, gitlabUrl } = job;
  const { name, project, pool, runner } = claimed.detail;
  const starting = lastOf(history, "machine:creating");
  const page = project === "" ? undefined : `${gitlabUrl}/${project}/-`;
  return present({
    "cicd.pipeline.task.name": name,
    "cicd.pipeline.task.run.id": String(jobId),
    "cicd.pipeline.task.run.result": result,
    "cicd.pipeline.task.run.url.full": page && `${page}/jobs/${jobId}`,
    "cicd.pipeline.task.type": /^(?:build|test|deploy)$/.test(stage) ? stage : undefined,
    "cicd.pipeline.run.id": pipelineId === null ? undefined : String(pipelineId),
    "cicd.pipeline.run.url.full": page && pipelineId !== null ? `${page}/pipelines/${pipelineId}` : undefined,
    "error.type": error,
    "ci.job.id": jobId,
    "ci.job.name": name,
    "ci.job.stage": stage || undefined,
    "ci.pipeline.id": pipelineId ?? undefined,
    "ci.project.id": projectId ?? undefined,
    "ci.project.path": project || undefined,
    "firerunner.pool": pool,
    "firerunner.runner": runner,
    "firerunner.machines": new Set(machineIdsIn(history)).size,
    ...(starting && aboutMachine(starting)),
  });
}

function aboutMachine({ machineId, detail }: EventOf<"machine:creating">): Attributes {
  return present({
    "cicd.worker.id": machineId ?? undefined,
    "firerunner.host": detail.host,
    "firerunner.driver": detail.driver,
    "firerunner.machine.cpus": detail.cpus,
    "firerunner.machine.memory_mib": detail.memoryMib,
  });
}

function present(attributes: Readonly<Record<string, string | number | undefined>>): Attributes {
  const given = Object.entries(attributes).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given.map(([key, value]) => [key, cut(value)])) as Attributes;
}

function cut<Value>(value: Value): Value | string {
  // Half a letter is no UTF-8.
  return typeof value === "string" ? value.slice(0, LONGEST_TEXT).toWellFormed() : value;
}

/** In GitLab, and the request that brought the job: GitLab may have held that since before there was the job. */
function waitParts({ claimed }: Story, waitedFrom: number): Part[] {
  const claim = {
    name: "claim",
    startAt: Math.max(waitedFrom, claimed.at - claimed.detail.pollMs),
    endAt: claimed.at,
  };
  return claimed.detail.queuedMs === undefined
    ? [claim]
    : [{ name: "queue", startAt: waitedFrom, endAt: claimed.at }, claim];
}

interface MachineStory {
  readonly creating: EventOf<"machine:creating">;
  readonly machineId: string;
  /** Of this machine alone. */
  readonly own: readonly LifecycleEvent[];
  /** When the job began to wait for it: at its claim, or when the machine before was given up. */
  readonly wantedAt: number;
}

/** The last ones. */
function machinesOf({ history, claimed }: Story): MachineStory[] {
  const begun: Omit<MachineStory, "own">[] = [];
  let wantedAt = claimed.at;
  for (const event of history) {
    if (event.kind === "job:retried") wantedAt = event.at;
    else if (event.kind === "machine:creating" && event.machineId !== null)
      begun.push({ creating: event, machineId: event.machineId, wantedAt });
  }
  return begun.slice(-MOST_MACHINES).map((machine) => {
    const own = history.filter(({ machineId }) => machineId === machine.machineId);
    return { ...machine, own };
  });
}

function machineIdsIn(history: readonly LifecycleEvent[]): (string | null)[] {
  return history.filter(({ kind }) => kind === "machine:creating").map(({ machineId }) => machineId);
}

/** What a machine went through until it took the job, or was given up, and its end. */
function machineParts(story: Story, { creating, machineId, own, wantedAt }: MachineStory): Part[] {
  const at = (kind: EventKind) => own.find((event) => event.kind === kind)?.at;
  const fetchingAt = at("machine:fetching");
  const imagesAt = at("machine:images-here");
  const bootingAt = at("machine:booting");
  const readyAt = at("machine:ready");
  const heardAt = at("machine:heard");
  const stopping = own.find((event) => event.kind === "machine:stopping");
  const createFrom = fetchingAt === undefined ? creating.at : imagesAt;
  const phases = [
    ["image", fetchingAt, imagesAt],
    ["machine.create", createFrom, bootingAt],
    ["machine.boot", bootingAt, heardAt ?? readyAt],
    ["runner.start", heardAt, readyAt],
  ] as const;
  const stop = { at: stopping?.at ?? story.finished.at, problem: problemOf(story, stopping) };
  const attributes = aboutMachine(creating);
  return [
    { name: "place", startAt: wantedAt, endAt: creating.at },
    ...phases.flatMap(([name, startAt, endAt]) => phase(name, startAt, endAt, stop)),
    ...destruction(stopping?.at, at("machine:gone")),
  ].map((part) => ({ ...part, machineId, attributes }));
}

interface Stop {
  readonly at: number;
  readonly problem: string | undefined;
}

/** Nothing where it never began. One that was not done when its machine was given up ended with that. */
function phase(name: string, startAt: number | undefined, endAt: number | undefined, stop: Stop): Part[] {
  if (startAt === undefined) return [];
  return endAt === undefined
    ? [{ name, startAt, endAt: stop.at, problem: stop.problem }]
    : [{ name, startAt, endAt }];
}

/** Why a machine was given up before it was done; a cancel is no problem of the machine's. */
function problemOf({ finished }: Story, stopping: LifecycleEvent | undefined): string | undefined {
  if (finished.detail.result === "canceled") return undefined;
  const reason = stopping?.kind === "machine:stopping" ? stopping.detail.reason : undefined;
  return reason ?? finished.detail.reason ?? "the job ended first";
}

function destruction(stoppingAt: number | undefined, goneAt: number | undefined): Part[] {
  if (stoppingAt === undefined || goneAt === undefined) return [];
  return [{ name: "machine.destroy", startAt: stoppingAt, endAt: goneAt }];
}

/** The job's own work, and how long GitLab needed to take its end: from the word of its runner, or from when FireRunner had to fail it. */
function endParts({ history, finished }: Story): Part[] {
  const running = lastOf(history, "job:running");
  const failing = lastOf(history, "job:failing");
  const { toldAt } = finished.detail;
  const overAt = failing?.at ?? toldAt ?? finished.at;
  const problem = problemOfJob(finished);
  const about = running?.machineId ? { machineId: running.machineId } : {};
  return [
    ...(running ? [{ name: WORK_SPAN, startAt: running.at, endAt: overAt, problem, ...about }] : []),
    ...(overAt < finished.at ? [{ name: "finish", startAt: overAt, endAt: finished.at }] : []),
  ];
}
