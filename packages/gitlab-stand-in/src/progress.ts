import type { JobDefinition, PipelineDefinition } from "../../../src/ci/definition.ts";

export type JobStatus =
  | "created"
  | "pending"
  | "running"
  | "canceling"
  | "success"
  | "failed"
  | "canceled"
  | "skipped"
  | "manual";

/** States of a job that has nothing more to wait for but others. */
export const restStates: readonly JobStatus[] = [
  "created",
  "manual",
  "success",
  "failed",
  "canceled",
  "skipped",
];

export const endStates: readonly JobStatus[] = ["success", "failed", "canceled", "skipped"];

/** What the progress of a pipeline needs to know of one of its jobs: the newest attempt counts. */
export interface JobProgress {
  readonly definition: JobDefinition;
  readonly status: JobStatus;
  /** A failure that the job's `allow_failure` forgives. */
  readonly forgiven: boolean;
}

export interface JobMove {
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
