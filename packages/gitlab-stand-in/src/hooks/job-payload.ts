import { isForgiven, type Job } from "../model.ts";
import {
  date,
  iso,
  nameOf,
  type PayloadSetting,
  payloadUser,
  projectPart,
  runnerPart,
  seconds,
  spanOf,
  sshUrl,
} from "./payload-parts.ts";

/** The body of a Job Hook, whole. The tags of the job are not in it. */
export function jobHookPayload(job: Job, setting: PayloadSetting): Record<string, unknown> {
  const { pipeline, project, definition } = job;
  const { serverUrl } = setting;
  return {
    object_kind: "build",
    ref: pipeline.ref,
    // Whether `ref` is a Git tag.
    tag: false,
    before_sha: "0".repeat(40),
    sha: pipeline.sha,
    retries_count: job.retryCount,
    build_id: job.id,
    build_name: definition.name,
    build_stage: definition.stage,
    build_status: job.status,
    ...times(job, setting),
    build_duration: seconds(job.startedAt, job.finishedAt ?? setting.now),
    build_queued_duration: seconds(job.pendingAt, job.startedAt ?? setting.now),
    build_allow_failure: isForgiven(job),
    build_failure_reason: job.failureReason ?? "unknown_failure",
    pipeline_id: pipeline.id,
    runner: runnerPart(job.runner),
    project_id: project.id,
    project_name: project.path.split("/").join(" / "),
    user: payloadUser,
    commit: commitPart(job, setting),
    repository: {
      name: nameOf(project),
      url: sshUrl(project, serverUrl),
      description: null,
      homepage: `${serverUrl}/${project.path}`,
      git_http_url: `${serverUrl}/${project.path}.git`,
      git_ssh_url: sshUrl(project, serverUrl),
      visibility_level: 0,
    },
    project: projectPart(project, serverUrl),
    environment: null,
  };
}

function times(job: Job, setting: PayloadSetting): Record<string, unknown> {
  const plain = {
    build_created_at: date(job.createdAt, setting),
    build_started_at: date(job.startedAt, setting),
    build_finished_at: date(job.finishedAt, setting),
  };
  if (!setting.modern) return plain;
  return {
    ...plain,
    build_created_at_iso: iso(job.createdAt),
    build_started_at_iso: iso(job.startedAt),
    build_finished_at_iso: iso(job.finishedAt),
  };
}

/** Called a commit, but its id, name and status are those of the pipeline. */
function commitPart({ pipeline }: Job, setting: PayloadSetting): Record<string, unknown> {
  const { startedAt, finishedAt } = spanOf(pipeline, setting);
  const isoTimes = { started_at_iso: iso(startedAt), finished_at_iso: iso(finishedAt) };
  return {
    id: pipeline.id,
    name: null,
    sha: pipeline.sha,
    message: "Start\n",
    author_name: "Demo",
    author_email: "[REDACTED]",
    author_url: "mailto:demo@example.com",
    status: setting.status(pipeline),
    duration: seconds(startedAt, finishedAt),
    started_at: date(startedAt, setting),
    finished_at: date(finishedAt, setting),
    ...(setting.modern ? isoTimes : {}),
  };
}
