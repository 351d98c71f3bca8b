import type { Clock } from "../../../src/base/clock.ts";
import type { JobDefinition, PipelineDefinition } from "../../../src/ci/definition.ts";
import type { Jobs } from "./jobs.ts";
import { endStates, isForgiven, type Job, type JobStatus, type Pipeline, type Project } from "./model.ts";
import { markPipeline, readCommit } from "./projects.ts";

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
    const pipeline = { id, project, definition, ref, sha, commit, protectedRef, createdAt: clock.now() };
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
