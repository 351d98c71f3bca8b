/** Pipelines and their jobs: the only place that changes the status of a job, and what follows when one has ended. */
import { randomBytes } from "node:crypto";
import type { Clock } from "../../../src/base/clock.ts";
import { createListeners } from "../../../src/base/listeners.ts";
import type { JobDefinition, PipelineDefinition } from "../../../src/ci/definition.ts";
import {
  createTrace,
  endStates,
  isForgiven,
  isProcessing,
  type Job,
  type JobStatus,
  type Pipeline,
  type Project,
  type Runner,
} from "./model.ts";
import { keyOfFiles, markPipeline, readCommit } from "./projects.ts";

export interface NewPipeline {
  readonly ref?: string;
  readonly sha?: string;
  /** Whether its branch is protected; it is unless told otherwise. */
  readonly protectedRef?: boolean;
}

export interface Pipelines {
  create(project: Project, definition: PipelineDefinition, options?: NewPipeline): Promise<Pipeline>;
  /** Newest attempt of each of its jobs, in the order of the definition. */
  jobs(pipeline: Pipeline): Job[];
  status(pipeline: Pipeline): JobStatus;
  /** A new job in the place of one that ended. */
  retry(job: Job): Job;
}

/** Starts jobs when those before them have ended, and tries failed ones again as their `retry` says. */
export function createPipelines(clock: Clock, allJobs: Jobs): Pipelines {
  let nextId = 11;

  function newest(pipeline: Pipeline): Job[] {
    const place = (job: Job) => pipeline.definition.jobs.indexOf(job.definition);
    return allJobs
      .all()
      .filter((job) => job.pipeline === pipeline && job.retriedAs === undefined)
      .toSorted((a, b) => place(a) - place(b));
  }

  function retry(job: Job): Job {
    const next = allJobs.create(job.pipeline, job.definition, job.retryCount + 1);
    job.retriedAs = next.id;
    allJobs.setPending(next);
    return next;
  }

  function advance(pipeline: Pipeline): void {
    const jobs = newest(pipeline);
    for (const move of nextMoves(pipeline.definition, jobs.map(progressOf))) {
      const job = jobs.find((each) => each.definition.name === move.name);
      // An earlier move of this round may have set off changes of its own.
      if (job?.status !== "created") continue;
      if (move.to === "pending") allJobs.setPending(job);
      else allJobs.skip(job, move.to);
    }
  }

  allJobs.onChange((job) => {
    if (job.status === "failed" && wantsRetry(job)) retry(job);
    else if (endStates.includes(job.status) || job.status === "manual") advance(job.pipeline);
  });

  async function create(
    project: Project,
    definition: PipelineDefinition,
    options: NewPipeline = {},
  ): Promise<Pipeline> {
    const id = nextId++;
    const ref = options.ref ?? project.defaultBranch;
    const sha = options.sha ?? (await markPipeline(project, id, ref));
    const protectedRef = options.protectedRef ?? true;
    const commit = await readCommit(project.repository, ref);
    const fileKeys = await fileKeysOf(project, definition, sha);
    const about = { project, definition, ref, sha, commit, protectedRef, fileKeys };
    const pipeline = { id, ...about, createdAt: clock.now() };
    for (const job of definition.jobs) allJobs.create(pipeline, job, 0);
    advance(pipeline);
    return pipeline;
  }

  return {
    create,
    jobs: newest,
    status: (pipeline) => pipelineStatus(newest(pipeline).map(progressOf)),
    retry,
  };
}

async function fileKeysOf({ repository }: Project, { jobs }: PipelineDefinition, sha: string) {
  const keys = new Map<string, string>();
  for (const { key } of jobs.flatMap(({ caches }) => caches ?? []))
    if (typeof key !== "string") keys.set(key.files.join("\n"), await keyOfFiles(repository, sha, key.files));
  return keys;
}

function progressOf(job: Job): JobProgress {
  return { definition: job.definition, status: job.status, forgiven: isForgiven(job) };
}

function wantsRetry(job: Job): boolean {
  const { max, when } = job.definition.retry;
  if (job.retryCount >= max) return false;
  return when.includes("always") || when.includes(job.failureReason ?? "unknown_failure");
}

/** What the progress of a pipeline needs to know of one of its jobs: the newest attempt counts. */
interface JobProgress {
  readonly definition: JobDefinition;
  readonly status: JobStatus;
  /** A failure that the job's `allow_failure` forgives. */
  readonly forgiven: boolean;
}

interface JobMove {
  readonly name: string;
  readonly to: "pending" | "skipped" | "manual";
}

/** The `created` jobs whose turn has come, one step at a time: call again after the moves until none is left. */
export function nextMoves(pipeline: PipelineDefinition, jobs: readonly JobProgress[]): JobMove[] {
  return jobs
    .filter((job) => job.status === "created")
    .flatMap((job) => {
      const before = predecessorsOf(pipeline, jobs, job.definition);
      if (before.some((other) => !isOver(other))) return [];
      return [{ name: job.definition.name, to: decide(job.definition, before) }];
    });
}

function predecessorsOf(
  pipeline: PipelineDefinition,
  jobs: readonly JobProgress[],
  definition: JobDefinition,
): JobProgress[] {
  const { needs } = definition;
  if (needs) return jobs.filter((job) => needs.some((need) => need.job === job.definition.name));
  const stage = pipeline.stages.indexOf(definition.stage);
  return jobs.filter((job) => pipeline.stages.indexOf(job.definition.stage) < stage);
}

/** A manual job holds up what follows, unless it is allowed to fail. Nobody here starts it. */
function isOver(job: JobProgress): boolean {
  return endStates.includes(job.status) || (job.status === "manual" && job.definition.allowFailure === true);
}

function decide(definition: JobDefinition, before: readonly JobProgress[]): JobMove["to"] {
  const failed = before.some((job) => job.status === "failed" && !job.forgiven);
  const broken = failed || before.some((job) => job.status === "canceled" && !job.forgiven);
  // A job that asks for another by name cannot do without it; a later stage does not mind a gap.
  const missing =
    definition.needs !== undefined &&
    before.some((job) => job.status === "skipped" || job.status === "manual");
  if (definition.when === "always") return "pending";
  if (definition.when === "on_failure") return failed ? "pending" : "skipped";
  if (broken || missing) return "skipped";
  return definition.when === "manual" ? "manual" : "pending";
}

function isBlocking({ status, definition }: JobProgress): boolean {
  return status === "manual" && definition.allowFailure !== true;
}

/** The pipeline's own status, from its jobs. What has not ended counts whether it may fail or not. */
export function pipelineStatus(jobs: readonly JobProgress[]): JobStatus {
  const has = (status: JobStatus) => jobs.some((job) => job.status === status);
  const hasUnforgiven = (status: JobStatus) => jobs.some((job) => job.status === status && !job.forgiven);
  if (has("running") || has("canceling")) return "running";
  if (has("pending")) return has("success") ? "running" : "pending";
  if (jobs.some(isBlocking)) return "manual";
  if (has("created")) return jobs.some(isOver) ? "running" : "created";
  if (hasUnforgiven("failed")) return "failed";
  if (hasUnforgiven("canceled")) return "canceled";
  return jobs.every((job) => job.status === "skipped" || job.status === "manual") ? "skipped" : "success";
}

const FIRST_ID = 101;

interface JobEnd {
  readonly status: "success" | "failed";
  readonly failureReason?: string | undefined;
  readonly exitCode?: number | undefined;
}

/** Every job of the stand-in and the only place that changes a job's status. */
export interface Jobs {
  all(): readonly Job[];
  get(id: number): Job | undefined;
  create(pipeline: Pipeline, definition: JobDefinition, retryCount: number): Job;
  setPending(job: Job): void;
  skip(job: Job, to: "skipped" | "manual"): void;
  /** pending → running. From here on the job is the runner's. */
  claim(job: Job, runner: Runner, info: Readonly<Record<string, unknown>> | undefined): void;
  /** A job under cancellation ends `canceled`, whatever the runner says of it. */
  end(job: Job, end: JobEnd): void;
  /** As in GitLab: waits for the runner (`canceling`) only if it said that it can `cancel_gracefully`. */
  cancel(job: Job): void;
  onCreate(listener: (job: Job) => void): () => void;
  /** After each change of a status. */
  onChange(listener: (job: Job) => void): () => void;
}

export function createJobs(clock: Clock): Jobs {
  const all: Job[] = [];
  const created = createListeners<Job>();
  const changed = createListeners<Job>();

  function move(job: Job, to: JobStatus): void {
    job.status = to;
    if (endStates.includes(to)) job.finishedAt = clock.now();
    changed.emit(job);
  }

  function cancel(job: Job): void {
    if (endStates.includes(job.status) || job.status === "canceling") return;
    job.canceledAt = clock.now();
    const features = job.runnerInfo?.["features"] as Record<string, unknown> | undefined;
    const graceful = job.status === "running" && features?.["cancel_gracefully"] === true;
    move(job, graceful ? "canceling" : "canceled");
  }

  return {
    all: () => all,
    get: (id) => all.find((job) => job.id === id),
    create(pipeline, definition, retryCount) {
      const job = newJob(all.length + FIRST_ID, pipeline, definition, retryCount, clock.now());
      all.push(job);
      created.emit(job);
      return job;
    },
    setPending(job) {
      job.pendingAt = clock.now();
      move(job, "pending");
    },
    skip: move,
    claim(job, runner, info) {
      job.startedAt = clock.now();
      job.runner = runner;
      job.runnerInfo = info;
      job.systemId = runner.systemId;
      move(job, "running");
    },
    end(job, { status, failureReason, exitCode }) {
      if (!isProcessing(job) && job.status !== "pending") return;
      job.exitCode = exitCode;
      if (job.status === "canceling") return move(job, "canceled");
      if (status === "failed") job.failureReason = failureReason ?? "unknown_failure";
      move(job, status);
    },
    cancel,
    onCreate: created.add,
    onChange: changed.add,
  };
}

/** A job in its first state. */
function newJob(
  id: number,
  pipeline: Pipeline,
  definition: JobDefinition,
  retryCount: number,
  createdAt: number,
): Job {
  return {
    id,
    project: pipeline.project,
    pipeline,
    definition,
    token: `glcbt-64_${randomBytes(15).toString("base64url")}`,
    trace: createTrace(),
    artifacts: [],
    retryCount,
    status: "created",
    runner: undefined,
    runnerInfo: undefined,
    systemId: undefined,
    failureReason: undefined,
    exitCode: undefined,
    retriedAs: undefined,
    watched: false,
    traceCheck: undefined,
    heldUpdate: undefined,
    heldCount: 0,
    endAnswered: false,
    createdAt,
    pendingAt: undefined,
    startedAt: undefined,
    canceledAt: undefined,
    finishedAt: undefined,
  };
}

export type Reached = JobStatus | ((job: Job) => boolean);

/** Resolves as soon as the job has come this far; rejects with what it looks like instead when `timeoutMs` is over. */
export async function waitForJob(all: Jobs, job: Job, reached: Reached, timeoutMs = 30_000): Promise<Job> {
  const holds = () => (typeof reached === "function" ? reached(job) : job.status === reached);
  if (holds()) return job;
  return await new Promise((resolve, reject) => {
    const stops = [all.onChange(check), job.trace.onAppend(check), () => clearTimeout(timer)];
    const timer = setTimeout(() => finish(() => reject(new Error(describeJob(job, reached)))), timeoutMs);
    function check(): void {
      if (holds()) finish(() => resolve(job));
    }
    function finish(settle: () => void): void {
      for (const stop of stops) stop();
      settle();
    }
  });
}

function describeJob(job: Job, reached: Reached): string {
  const { status, failureReason = "" } = job;
  const hoped = typeof reached === "string" ? reached : "what was waited for";
  return `job ${job.id} is ${status} ${failureReason}, not ${hoped}; its log ends: ${job.trace.text().slice(-500)}`;
}
