import type { Core } from "../core.ts";
import type { Job, Pipeline, Project } from "../model.ts";
import type { JobStatus } from "../progress.ts";
import type { HookNews } from "./delivery.ts";
import { jobHookPayload } from "./job-payload.ts";
import { type PayloadSetting, payloadUser, projectPart } from "./payload-parts.ts";
import { pipelineHookPayload } from "./pipeline-payload.ts";
import { isSigning } from "./sender.ts";

/** Changes of a job that GitLab tells. It says nothing of canceling, manual and skipped jobs. */
const toldJobStatuses: readonly JobStatus[] = ["pending", "running", "success", "failed", "canceled"];

/** Lets hooks hear of every job and pipeline from now on. */
export function tellHooks(core: Core): void {
  const last = new Map<number, JobStatus>();

  function tellPipeline(pipeline: Pipeline): void {
    const status = core.pipelines.status(pipeline);
    if ((last.get(pipeline.id) ?? "created") === status) return;
    last.set(pipeline.id, status);
    core.hooks.tell(pipelineNews(core, pipeline));
  }

  core.jobs.onCreate((job) => {
    if (core.hooks.all().length > 0) core.hooks.tell(jobNews(core, job));
  });
  core.jobs.onChange((job) => {
    // Without hooks nobody pays for payloads that nobody gets.
    if (core.hooks.all().length === 0) return;
    if (toldJobStatuses.includes(job.status)) core.hooks.tell(jobNews(core, job));
    tellPipeline(job.pipeline);
  });
}

export function jobNews(core: Core, job: Job): HookNews {
  const payload = jobHookPayload(job, settingOf(core));
  return { event: "Job Hook", project: job.project, jobId: job.id, status: job.status, payload };
}

export function pipelineNews(core: Core, pipeline: Pipeline): HookNews {
  const payload = pipelineHookPayload(pipeline, settingOf(core));
  const status = core.pipelines.status(pipeline);
  return { event: "Pipeline Hook", project: pipeline.project, jobId: undefined, status, payload };
}

/** Nobody pushes here: this is only for tests of a hook. */
export function pushNews(core: Core, project: Project): HookNews {
  const sha = "0".repeat(40);
  const payload = {
    object_kind: "push",
    event_name: "push",
    before: sha,
    after: sha,
    ref: `refs/heads/${project.defaultBranch}`,
    checkout_sha: sha,
    user_id: payloadUser.id,
    user_name: payloadUser.name,
    user_username: payloadUser.username,
    project_id: project.id,
    project: projectPart(project, core.url()),
    commits: [],
    total_commits_count: 0,
  };
  return { event: "Push Hook", project, jobId: undefined, status: "", payload };
}

function settingOf(core: Core): PayloadSetting {
  return {
    serverUrl: core.url(),
    modern: isSigning(core.behaviour.hooks),
    now: core.clock.now(),
    status: core.pipelines.status,
    jobs: core.pipelines.jobs,
  };
}
