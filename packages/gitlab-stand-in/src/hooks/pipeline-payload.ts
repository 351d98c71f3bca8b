import { archiveOf, isForgiven, type Job, type Pipeline } from "../model.ts";
import {
  date,
  type PayloadSetting,
  payloadUser,
  projectPart,
  runnerPart,
  seconds,
  spanOf,
} from "./payload-parts.ts";

/** The body of a Pipeline Hook, whole, with the newest attempt of each job. */
export function pipelineHookPayload(pipeline: Pipeline, setting: PayloadSetting): Record<string, unknown> {
  const { project } = pipeline;
  const { serverUrl } = setting;
  return {
    object_kind: "pipeline",
    object_attributes: attributes(pipeline, setting),
    merge_request: null,
    user: payloadUser,
    project: projectPart(project, serverUrl),
    commit: {
      id: pipeline.sha,
      message: "Start\n",
      title: "Start",
      timestamp: new Date(pipeline.createdAt).toISOString(),
      url: `${serverUrl}/${project.path}/-/commit/${pipeline.sha}`,
      author: { name: "Demo", email: "[REDACTED]" },
    },
    builds: setting.jobs(pipeline).map((job) => buildPart(job, setting)),
  };
}

function attributes(pipeline: Pipeline, setting: PayloadSetting): Record<string, unknown> {
  const { startedAt, finishedAt } = spanOf(pipeline, setting);
  const status = setting.status(pipeline);
  return {
    id: pipeline.id,
    iid: pipeline.id,
    name: null,
    ref: pipeline.ref,
    ref_status_name: pipeline.ref,
    tag: false,
    sha: pipeline.sha,
    before_sha: "0".repeat(40),
    source: "push",
    status,
    detailed_status: status === "success" ? "passed" : status,
    stages: pipeline.definition.stages,
    created_at: date(pipeline.createdAt, setting),
    finished_at: date(finishedAt, setting),
    duration: seconds(startedAt, finishedAt),
    queued_duration: seconds(pipeline.createdAt, startedAt),
    protected_ref: pipeline.protectedRef,
    variables: [],
    url: `${setting.serverUrl}/${pipeline.project.path}/-/pipelines/${pipeline.id}`,
  };
}

function buildPart(job: Job, setting: PayloadSetting): Record<string, unknown> {
  const archive = archiveOf(job);
  return {
    id: job.id,
    stage: job.definition.stage,
    name: job.definition.name,
    status: job.status,
    created_at: date(job.createdAt, setting),
    started_at: date(job.startedAt, setting),
    finished_at: date(job.finishedAt, setting),
    duration: seconds(job.startedAt, job.finishedAt ?? setting.now),
    queued_duration: seconds(job.pendingAt, job.startedAt ?? setting.now),
    failure_reason: job.status === "failed" ? (job.failureReason ?? "unknown_failure") : null,
    when: job.definition.when,
    manual: job.definition.when === "manual",
    allow_failure: isForgiven(job),
    user: payloadUser,
    runner: runnerPart(job.runner),
    artifacts_file: { filename: archive?.filename ?? null, size: archive?.sizeBytes ?? null },
    environment: null,
  };
}
