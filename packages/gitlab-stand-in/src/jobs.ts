import { randomBytes } from "node:crypto";
import type { Clock } from "../../../src/base/clock.ts";
import { createListeners } from "../../../src/base/listeners.ts";
import type { JobDefinition } from "../../../src/ci/definition.ts";
import {
  createTrace,
  endStates,
  isProcessing,
  type Job,
  type JobStatus,
  type Pipeline,
  type Runner,
} from "./model.ts";

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
    guestSeenAt: undefined,
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
