import type { Core } from "../core.ts";
import type { Job, JobStatus, Pipeline, Project } from "../model.ts";
import type { HookMessage } from "./hooks.ts";
import {
  jobHookPayload,
  type PayloadSetting,
  payloadUser,
  pipelineHookPayload,
  projectPart,
} from "./payloads.ts";
import { isSigning } from "./sender.ts";

/** Changes of a job that GitLab tells. It says nothing of canceling, manual and skipped jobs. */
const toldJobStatuses: readonly JobStatus[] = ["pending", "running", "success", "failed", "canceled"];

/** Lets hooks hear of every job and pipeline from now on. */
export function notifyHooks(core: Core): void {
  const last = new Map<number, JobStatus>();

  function notifyPipeline(pipeline: Pipeline): void {
    const status = core.pipelines.status(pipeline);
    if ((last.get(pipeline.id) ?? "created") === status) return;
    last.set(pipeline.id, status);
    core.hooks.notify(pipelineMessage(core, pipeline));
  }

  core.jobs.onCreate((job) => {
    if (core.hooks.all().length > 0) core.hooks.notify(jobMessage(core, job));
  });
  core.jobs.onChange((job) => {
    // Without hooks nobody pays for payloads that nobody gets.
    if (core.hooks.all().length === 0) return;
    if (toldJobStatuses.includes(job.status)) core.hooks.notify(jobMessage(core, job));
    notifyPipeline(job.pipeline);
  });
}

export function jobMessage(core: Core, job: Job): HookMessage {
  const payload = jobHookPayload(job, settingOf(core));
  return { event: "Job Hook", project: job.project, jobId: job.id, status: job.status, payload };
}

export function pipelineMessage(core: Core, pipeline: Pipeline): HookMessage {
  const payload = pipelineHookPayload(pipeline, settingOf(core));
  const status = core.pipelines.status(pipeline);
  return { event: "Pipeline Hook", project: pipeline.project, jobId: undefined, status, payload };
}

/** Nobody pushes here: this is only for tests of a hook. */
export function pushMessage(core: Core, project: Project): HookMessage {
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
