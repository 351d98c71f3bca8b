/**
 * Webhook bodies with every field that GitLab sends, those FireRunner never reads included. `created` is the time of the event
 * in epoch ms; the dates of both forms are made from it.
 */
export interface HookOverrides extends Record<string, unknown> {
  jobId?: number;
  projectId?: number;
  projectPath?: string;
  pipelineId?: number;
  status?: string;
  created?: number;
}

const someTime = 1_700_000_000_000;
const sha = "8a3c1f0d5be1c7e0a5b6d7f8091a2b3c4d5e6f70";
const zeros = "0000000000000000000000000000000000000000";

/** The body of a Job Hook. A job has a runner as soon as it runs. */
export function aJobHook(overrides: HookOverrides = {}): Record<string, unknown> {
  const { jobId = 4711, projectId = 7, projectPath = "group/project", ...rest } = overrides;
  const { pipelineId = 99, status = "pending", created = someTime, ...fields } = rest;
  const started = ["pending", "created"].includes(status) ? null : created + 1_000;
  const finished = ["success", "failed", "canceled"].includes(status) ? created + 9_000 : null;
  return {
    object_kind: "build",
    ref: "main",
    tag: false,
    before_sha: zeros,
    sha,
    retries_count: 0,
    build_id: jobId,
    build_name: "build",
    build_stage: "test",
    build_status: status,
    build_created_at: rubyDate(created),
    build_started_at: rubyDate(started),
    build_finished_at: rubyDate(finished),
    build_created_at_iso: isoDate(created),
    build_started_at_iso: isoDate(started),
    build_finished_at_iso: isoDate(finished),
    build_duration: finished && started ? (finished - started) / 1_000 : null,
    build_queued_duration: 0.42,
    build_allow_failure: false,
    build_failure_reason: status === "failed" ? "script_failure" : "unknown_failure",
    pipeline_id: pipelineId,
    runner: started === null ? null : aRunner(),
    project_id: projectId,
    project_name: "Group / Project",
    user: aUser(),
    commit: aBuildCommit(pipelineId, created),
    repository: aRepository(projectPath),
    project: { ...aProject(projectId, projectPath), description: "" },
    environment: null,
    ...fields,
  };
}

/** The body of a Pipeline Hook with two jobs. */
export function aPipelineHook(overrides: HookOverrides = {}): Record<string, unknown> {
  const { jobId = 4711, projectId = 7, projectPath = "group/project", ...rest } = overrides;
  const { pipelineId = 99, status = "pending", created = someTime, ...fields } = rest;
  return {
    object_kind: "pipeline",
    object_attributes: {
      id: pipelineId,
      iid: 12,
      name: null,
      ref: "main",
      ref_status_name: null,
      tag: false,
      sha,
      before_sha: zeros,
      source: "push",
      status,
      detailed_status: status,
      stages: ["test", "deploy"],
      created_at: rubyDate(created),
      finished_at: null,
      duration: null,
      queued_duration: null,
      protected_ref: true,
      variables: [{ key: "GREETING", value: "hello" }],
      url: `https://gitlab.example.com/${projectPath}/-/pipelines/${pipelineId}`,
    },
    merge_request: null,
    user: aUser(),
    project: aProject(projectId, projectPath),
    commit: {
      id: sha,
      message: "Say hello\n",
      title: "Say hello",
      timestamp: isoDate(created),
      url: `https://gitlab.example.com/${projectPath}/-/commit/${sha}`,
      author: { name: "Ada Example", email: "ada@example.com" },
    },
    builds: [aBuild(jobId, "test", "build", "pending"), aBuild(jobId + 1, "deploy", "deploy", "created")],
    ...fields,
  };
}

/** The headers of GitLab 19 beside those that prove the request. */
export function hookHeaders(event: "Job Hook" | "Pipeline Hook" | string, id: string) {
  return {
    "content-type": "application/json",
    "user-agent": "GitLab/19.1.0",
    "x-gitlab-event": event,
    "x-gitlab-webhook-uuid": `w-${id}`,
    "x-gitlab-instance": "https://gitlab.example.com",
    "x-gitlab-event-uuid": `e-${id}`,
    "idempotency-key": id,
    "webhook-id": id,
    "webhook-timestamp": "1700000000",
  };
}

/** `2023-11-14 22:13:20 UTC`: the form of old versions, and of the fields without `_iso`. */
function rubyDate(at: number | null): string | null {
  return at === null ? null : `${new Date(at).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

function isoDate(at: number | null): string | null {
  return at === null ? null : new Date(at).toISOString();
}

function aUser() {
  return {
    id: 5,
    name: "Ada Example",
    username: "ada",
    avatar_url: "https://gitlab.example.com/uploads/ada.png",
    email: "[REDACTED]",
  };
}

function aRunner() {
  return {
    id: 81,
    description: "firerunner example",
    runner_type: "group_type",
    active: true,
    is_shared: false,
    tags: ["firecracker-2cpu-4gb"],
  };
}

function aBuildCommit(pipelineId: number, created: number) {
  return {
    id: pipelineId,
    name: null,
    sha,
    message: "Say hello\n\nWith “quotes”, a tab\t and 日本語 🚀.",
    author_name: "Ada Example",
    author_email: "ada@example.com",
    author_url: "https://gitlab.example.com/ada",
    status: "running",
    duration: null,
    started_at: rubyDate(created),
    finished_at: null,
    started_at_iso: isoDate(created),
    finished_at_iso: null,
  };
}

function aRepository(path: string) {
  return {
    name: "Project",
    url: `git@gitlab.example.com:${path}.git`,
    description: "",
    homepage: `https://gitlab.example.com/${path}`,
    git_http_url: `https://gitlab.example.com/${path}.git`,
    git_ssh_url: `git@gitlab.example.com:${path}.git`,
    visibility_level: 0,
  };
}

function aProject(id: number, path: string) {
  return {
    id,
    name: "Project",
    description: null,
    web_url: `https://gitlab.example.com/${path}`,
    avatar_url: null,
    git_ssh_url: `git@gitlab.example.com:${path}.git`,
    git_http_url: `https://gitlab.example.com/${path}.git`,
    namespace: "Group",
    visibility_level: 0,
    path_with_namespace: path,
    default_branch: "main",
    ci_config_path: null,
  };
}

function aBuild(id: number, stage: string, name: string, status: string) {
  return {
    id,
    stage,
    name,
    status,
    created_at: rubyDate(someTime),
    started_at: null,
    finished_at: null,
    duration: null,
    queued_duration: 0.5,
    failure_reason: null,
    when: "on_success",
    manual: false,
    allow_failure: false,
    user: aUser(),
    runner: null,
    artifacts_file: { filename: null, size: null },
    environment:
      stage === "deploy" ? { name: "production", action: "start", deployment_tier: "production" } : null,
  };
}
