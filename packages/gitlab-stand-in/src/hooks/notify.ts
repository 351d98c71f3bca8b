/** Tells hooks of jobs, pipelines and pushes, with the whole bodies that GitLab sends. */
import type { Core } from "../core.ts";
import {
  archiveOf,
  isForgiven,
  type Job,
  type JobStatus,
  type Pipeline,
  type Project,
  type Runner,
} from "../model.ts";
import { isSigning } from "./hook.ts";
import type { HookMessage } from "./hooks.ts";

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

/** The body of a Job Hook, whole. The tags of the job are not in it. */
function jobHookPayload(job: Job, setting: PayloadSetting): Record<string, unknown> {
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

/** The body of a Pipeline Hook, whole, with the newest attempt of each job. */
function pipelineHookPayload(pipeline: Pipeline, setting: PayloadSetting): Record<string, unknown> {
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

/** What payloads need to know beside the job itself. */
interface PayloadSetting {
  readonly serverUrl: string;
  /** Dates as GitLab 19 sends them, else as Ruby prints them, without the `_iso` fields. */
  readonly modern: boolean;
  readonly now: number;
  status(pipeline: Pipeline): JobStatus;
  jobs(pipeline: Pipeline): Job[];
}

/** `2026-01-31T10:20:30.000Z`, or from an older GitLab `2026-01-31 10:20:30 UTC`. */
function date(at: number | undefined, { modern }: PayloadSetting): string | null {
  if (at === undefined) return null;
  const iso = new Date(at).toISOString();
  return modern ? iso : `${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC`;
}

function iso(at: number | undefined): string | null {
  return at === undefined ? null : new Date(at).toISOString();
}

function seconds(from: number | undefined, to: number | undefined): number | null {
  return from === undefined || to === undefined ? null : (to - from) / 1_000;
}

const payloadUser = {
  id: 1,
  name: "Demo",
  username: "demo",
  avatar_url: null,
  email: "[REDACTED]",
};

/** The runner's own tags are there, never the job's. */
function runnerPart(runner: Runner | undefined): Record<string, unknown> | null {
  if (!runner) return null;
  return {
    id: runner.id,
    description: runner.description,
    runner_type: runner.type,
    active: !runner.paused,
    is_shared: runner.type === "instance_type",
    tags: runner.tags,
  };
}

function projectPart(project: Project, serverUrl: string): Record<string, unknown> {
  return {
    id: project.id,
    name: nameOf(project),
    description: null,
    web_url: `${serverUrl}/${project.path}`,
    avatar_url: null,
    git_ssh_url: sshUrl(project, serverUrl),
    git_http_url: `${serverUrl}/${project.path}.git`,
    namespace: project.path.split("/").at(-2) ?? "",
    visibility_level: 0,
    path_with_namespace: project.path,
    default_branch: project.defaultBranch,
    ci_config_path: null,
  };
}

function nameOf(project: Project): string {
  return project.path.split("/").at(-1) ?? project.path;
}

function sshUrl(project: Project, serverUrl: string): string {
  return `git@${new URL(serverUrl).hostname}:${project.path}.git`;
}

interface Span {
  readonly startedAt: number | undefined;
  readonly finishedAt: number | undefined;
}

/** From the first start to the last end of a pipeline's jobs; the end only when all have ended. */
function spanOf(pipeline: Pipeline, setting: PayloadSetting): Span {
  const jobs = setting.jobs(pipeline);
  const starts = jobs.flatMap((job) => job.startedAt ?? []);
  const ends = jobs.flatMap((job) => job.finishedAt ?? []);
  const isOver = ["success", "failed", "canceled", "skipped"].includes(setting.status(pipeline));
  return {
    startedAt: starts.length === 0 ? undefined : Math.min(...starts),
    finishedAt: isOver && ends.length > 0 ? Math.max(...ends) : undefined,
  };
}
