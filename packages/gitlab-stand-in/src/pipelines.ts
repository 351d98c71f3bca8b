import type { Clock } from "../../../src/base/clock.ts";
import type { PipelineDefinition } from "../../../src/ci/definition.ts";
import type { Jobs } from "./jobs.ts";
import { isForgiven, type Job, type Pipeline, type Project } from "./model.ts";
import { endStates, type JobProgress, type JobStatus, nextMoves, pipelineStatus } from "./progress.ts";
import { markPipeline, readCommit } from "./repository.ts";

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
export function createPipelines(clock: Clock, book: Jobs): Pipelines {
  let nextId = 11;

  function newest(pipeline: Pipeline): Job[] {
    const place = (job: Job) => pipeline.definition.jobs.indexOf(job.definition);
    return book
      .all()
      .filter((job) => job.pipeline === pipeline && job.retriedAs === undefined)
      .toSorted((a, b) => place(a) - place(b));
  }

  function retry(job: Job): Job {
    const again = book.create(job.pipeline, job.definition, job.retryCount + 1);
    job.retriedAs = again.id;
    book.setPending(again);
    return again;
  }

  function advance(pipeline: Pipeline): void {
    const jobs = newest(pipeline);
    for (const move of nextMoves(pipeline.definition, jobs.map(progressOf))) {
      const job = jobs.find((each) => each.definition.name === move.name);
      // An earlier move of this round may have set off changes of its own.
      if (job?.status !== "created") continue;
      if (move.to === "pending") book.setPending(job);
      else book.skip(job, move.to);
    }
  }

  book.onChange((job) => {
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
    for (const job of definition.jobs) book.create(pipeline, job, 0);
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
