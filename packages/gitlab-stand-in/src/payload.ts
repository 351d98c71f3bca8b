/** The answer to a request for a job, with all variables that GitLab gives to jobs. */
import type { CacheDefinition, ImageDefinition } from "../../../src/ci/definition.ts";
import { archiveOf, type CiVariable, type Job, type Pipeline, type Project } from "./model.ts";

const GIT_DEPTH = 20;

/** What GitLab takes as `failure_reason`; runners map everything else to the nearest of these. */
export const failureReasons = [
  "unknown_failure",
  "script_failure",
  "api_failure",
  "stuck_or_timeout_failure",
  "runner_system_failure",
  "missing_dependency_failure",
  "runner_unsupported",
  "stale_schedule",
  "job_execution_timeout",
  "archived_failure",
  "unmet_prerequisites",
  "scheduler_failure",
  "data_integrity_failure",
];

/** Jobs whose artifacts `job` fetches: named by `dependencies` or `needs`, else all of the earlier stages. */
export function dependenciesOf(job: Job, jobs: readonly Job[]): Job[] {
  const { definition, pipeline } = job;
  const stageOf = (other: Job) => pipeline.definition.stages.indexOf(other.definition.stage);
  const offered = jobs.filter((other) => {
    if (other === job) return false;
    if (!definition.needs) return stageOf(other) < stageOf(job);
    return definition.needs.some((need) => need.job === other.definition.name && need.artifacts);
  });
  const { dependencies } = definition;
  return dependencies ? offered.filter((other) => dependencies.includes(other.definition.name)) : offered;
}

/** The body of the 201 of a job request, whole, as GitLab 18 words it. `jobs` are those of its pipeline. */
export function jobPayload(job: Job, jobs: readonly Job[], serverUrl: string): Record<string, unknown> {
  const { definition, pipeline } = job;
  return {
    id: job.id,
    token: job.token,
    allow_git_fetch: true,
    job_info: jobInfo(job),
    git_info: {
      repo_url: repositoryUrl(job, serverUrl),
      repo_object_format: "sha1",
      ref: pipeline.ref,
      sha: pipeline.sha,
      before_sha: "0".repeat(40),
      ref_type: "branch",
      refspecs: [
        `+refs/pipelines/${pipeline.id}:refs/pipelines/${pipeline.id}`,
        `+refs/heads/${pipeline.ref}:refs/remotes/origin/${pipeline.ref}`,
      ],
      depth: GIT_DEPTH,
      protected: pipeline.protectedRef,
    },
    runner_info: { timeout: timeoutSeconds(job), runner_session_url: null },
    inputs: [],
    variables: variablesOf(job, serverUrl),
    steps: stepsOf(job),
    hooks: [],
    image: definition.image ? imageOf(definition.image) : null,
    services: (definition.services ?? []).map((service) => ({
      ...imageOf(service),
      alias: service.alias ?? null,
      command: service.command ?? null,
      variables: Object.entries(service.variables ?? {}).map(([key, value]) => plain(key, value)),
    })),
    artifacts: artifactsOf(job),
    cache: cachesOf(job),
    credentials: [],
    dependencies: dependenciesOf(job, jobs).flatMap((other) => {
      const archive = archiveOf(other);
      if (!archive) return [];
      const file = { filename: archive.filename, size: archive.sizeBytes };
      // GitLab 18 gives the running job's own token here, not the dependency's.
      return [{ id: other.id, name: other.definition.name, token: job.token, artifacts_file: file }];
    }),
    features: {
      trace_sections: true,
      token_mask_prefixes: ["glpat-", "glrt-", "glcbt-"],
      failure_reasons: failureReasons,
      ...tracingOf(job),
    },
  };
}

function tracingOf({ tracing }: Job): Record<string, unknown> {
  if (tracing === undefined) return {};
  const { traceId, spanParentId } = tracing;
  return { tracing: { trace_id: traceId, span_parent_id: spanParentId, otel_endpoints: [] } };
}

function imageOf({ name, entrypoint, pullPolicy, docker }: ImageDefinition): Record<string, unknown> {
  return {
    name,
    entrypoint: entrypoint ?? null,
    ports: [],
    executor_opts: docker ? { docker } : {},
    ...(pullPolicy ? { pull_policy: pullPolicy } : {}),
  };
}

/** The job's own limit, or its runner's where that is lower. */
function timeoutSeconds({ definition, runner }: Job): number {
  return Math.min(definition.timeoutSeconds, runner?.maximumTimeoutSeconds ?? Number.POSITIVE_INFINITY);
}

function jobInfo(job: Job): Record<string, unknown> {
  const { definition, pipeline, project } = job;
  return {
    id: job.id,
    name: definition.name,
    stage: definition.stage,
    pipeline_id: pipeline.id,
    project_id: project.id,
    project_name: project.path.split("/").at(-1),
    project_full_path: project.path,
    namespace_id: 1,
    root_namespace_id: 1,
    organization_id: 1,
    instance_id: "standin",
    instance_uuid: "standin",
    user_id: 1,
    scoped_user_id: null,
    time_in_queue_seconds: ((job.startedAt ?? 0) - (job.pendingAt ?? 0)) / 1_000,
    project_jobs_running_on_instance_runners_count: "0",
    queue_size: 0,
    queue_depth: 0,
  };
}

function stepsOf({ definition }: Job): Record<string, unknown>[] {
  const script = {
    name: "script",
    script: definition.script,
    timeout: definition.timeoutSeconds,
    when: "on_success",
    allow_failure: false,
  };
  if (definition.afterScript.length === 0) return [script];
  const after = { ...script, name: "after_script", script: definition.afterScript, when: "always" };
  return [script, { ...after, allow_failure: true }];
}

function artifactsOf({ definition }: Job): Record<string, unknown>[] | null {
  const { artifacts } = definition;
  if (!artifacts) return null;
  const entry = {
    name: artifacts.name ?? null,
    untracked: artifacts.untracked,
    paths: artifacts.paths,
    exclude: artifacts.exclude,
    when: artifacts.when,
    expire_in: artifacts.expireIn ?? null,
    artifact_type: "archive",
    artifact_format: "zip",
  };
  return [entry];
}

/** With the endings that keep what protected branches store apart from what others do. */
function cachesOf({ definition, pipeline, project }: Job): Record<string, unknown>[] {
  return (definition.caches ?? []).map((cache) => {
    const isProtected = pipeline.protectedRef && !cache.unprotect;
    const ending = project.separateCaches ? `-${isProtected ? "protected" : "non_protected"}` : "";
    return {
      key: `${plainKey(cache.key, pipeline)}${ending}`,
      untracked: cache.untracked,
      paths: cache.paths,
      policy: cache.policy,
      when: cache.when,
      fallback_keys: cache.fallbackKeys.map((key) => `${key}${ending}`),
    };
  });
}

function plainKey(key: CacheDefinition["key"], { fileKeys }: Pipeline): string {
  if (typeof key === "string") return key;
  const made = fileKeys.get(key.files.join("\n")) ?? "default";
  return key.prefix === undefined ? made : `${key.prefix}-${made}`;
}

const VERSION = "18.9.0";

/**
 * The variables of a job in the order GitLab merges them: predefined, project, job. A later one of the same name wins, so
 * only the last is kept.
 */
function variablesOf(job: Job, serverUrl: string): CiVariable[] {
  const all = [
    ...jobVariables(job, serverUrl),
    ...pipelineVariables(job.pipeline, serverUrl),
    ...runnerVariables(job),
    ...job.project.variables,
    ...Object.entries(job.definition.variables).map(([key, value]) => plain(key, value)),
  ];
  return [...new Map(all.map((variable) => [variable.key, variable])).values()];
}

/** What is known before there is any job, and so what `rules` may ask for. */
export function pipelineVariables(
  pipeline: Pick<Pipeline, "project" | "ref" | "sha" | "protectedRef" | "commit">,
  serverUrl: string,
): CiVariable[] {
  return [
    plain("CI_PIPELINE_SOURCE", "push"),
    plain("CI", "true"),
    plain("GITLAB_CI", "true"),
    ...serverVariables(serverUrl),
    ...projectVariables(pipeline.project, serverUrl),
    ...commitVariables(pipeline),
  ];
}

function plain(key: string, value: string | number): CiVariable {
  return { key, value: String(value), public: true, masked: false };
}

function secret(key: string, value: string): CiVariable {
  return { key, value, public: false, masked: true };
}

/** Lower case, everything else than letters and digits as `-`, at most 63 characters: GitLab's slugs. */
function slug(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^a-z0-9]/g, "-")
    .slice(0, 63)
    .replace(/^-+|-+$/g, "");
}

function repositoryUrl(job: Job, serverUrl: string): string {
  const url = new URL(`/${job.project.path}.git`, serverUrl);
  url.username = "gitlab-ci-token";
  url.password = job.token;
  return url.href;
}

function jobVariables(job: Job, serverUrl: string): CiVariable[] {
  const projectUrl = `${serverUrl}/${job.project.path}`;
  return [
    plain("CI_PIPELINE_ID", job.pipeline.id),
    plain("CI_PIPELINE_IID", job.pipeline.id),
    plain("CI_PIPELINE_URL", `${projectUrl}/-/pipelines/${job.pipeline.id}`),
    plain("CI_PIPELINE_CREATED_AT", new Date(job.pipeline.createdAt).toISOString()),
    plain("CI_JOB_ID", job.id),
    plain("CI_JOB_URL", `${projectUrl}/-/jobs/${job.id}`),
    secret("CI_JOB_TOKEN", job.token),
    plain("CI_JOB_STARTED_AT", new Date(job.startedAt ?? job.createdAt).toISOString()),
    plain("CI_REGISTRY_USER", "gitlab-ci-token"),
    secret("CI_REGISTRY_PASSWORD", job.token),
    { ...plain("CI_REPOSITORY_URL", repositoryUrl(job, serverUrl)), public: false },
    plain("CI_JOB_NAME", job.definition.name),
    plain("CI_JOB_NAME_SLUG", slug(job.definition.name)),
    plain("CI_JOB_STAGE", job.definition.stage),
    plain("CI_JOB_TIMEOUT", job.definition.timeoutSeconds),
    plain("CI_NODE_TOTAL", 1),
  ];
}

function serverVariables(serverUrl: string): CiVariable[] {
  const { host, hostname, port, protocol } = new URL(serverUrl);
  const [major = "", minor = "", patch = ""] = VERSION.split(".");
  return [
    plain("CI_SERVER_URL", serverUrl),
    plain("CI_SERVER_HOST", hostname),
    plain("CI_SERVER_FQDN", host),
    plain("CI_SERVER_PORT", port || "80"),
    plain("CI_SERVER_PROTOCOL", protocol.replace(":", "")),
    plain("CI_SERVER_NAME", "GitLab"),
    plain("CI_SERVER_VERSION", VERSION),
    plain("CI_SERVER_VERSION_MAJOR", major),
    plain("CI_SERVER_VERSION_MINOR", minor),
    plain("CI_SERVER_VERSION_PATCH", patch),
    plain("CI_SERVER_REVISION", "standin"),
    plain("CI_SERVER", "yes"),
    plain("GITLAB_FEATURES", ""),
    plain("CI_API_V4_URL", `${serverUrl}/api/v4`),
    plain("CI_API_GRAPHQL_URL", `${serverUrl}/api/graphql`),
  ];
}

function projectVariables(project: Project, serverUrl: string): CiVariable[] {
  const name = project.path.split("/").at(-1) ?? project.path;
  const namespace = project.path.split("/").slice(0, -1).join("/");
  return [
    plain("CI_PROJECT_ID", project.id),
    plain("CI_PROJECT_NAME", name),
    plain("CI_PROJECT_TITLE", name),
    plain("CI_PROJECT_PATH", project.path),
    plain("CI_PROJECT_PATH_SLUG", slug(project.path)),
    plain("CI_PROJECT_NAMESPACE", namespace),
    plain("CI_PROJECT_ROOT_NAMESPACE", namespace.split("/")[0] ?? ""),
    plain("CI_PROJECT_URL", `${serverUrl}/${project.path}`),
    plain("CI_PROJECT_VISIBILITY", "private"),
    plain("CI_DEFAULT_BRANCH", project.defaultBranch),
    plain("CI_CONFIG_PATH", ".gitlab-ci.yml"),
    plain("GITLAB_USER_ID", 1),
    plain("GITLAB_USER_LOGIN", "demo"),
    plain("GITLAB_USER_NAME", "Demo"),
    plain("GITLAB_USER_EMAIL", "demo@example.com"),
  ];
}

function commitVariables({
  commit,
  ...pipeline
}: Pick<Pipeline, "ref" | "sha" | "protectedRef" | "commit">): CiVariable[] {
  return [
    ...(commit ? textVariables(commit) : []),
    plain("CI_COMMIT_SHA", pipeline.sha),
    plain("CI_COMMIT_SHORT_SHA", pipeline.sha.slice(0, 8)),
    plain("CI_COMMIT_BEFORE_SHA", "0".repeat(40)),
    plain("CI_COMMIT_REF_NAME", pipeline.ref),
    plain("CI_COMMIT_REF_SLUG", slug(pipeline.ref)),
    plain("CI_COMMIT_BRANCH", pipeline.ref),
    plain("CI_COMMIT_REF_PROTECTED", String(pipeline.protectedRef)),
  ];
}

function textVariables({ message, author, committedAt }: NonNullable<Pipeline["commit"]>): CiVariable[] {
  const [title = "", ...rest] = message.split("\n");
  return [
    plain("CI_COMMIT_MESSAGE", message),
    plain("CI_COMMIT_TITLE", title),
    plain("CI_COMMIT_DESCRIPTION", rest.join("\n").trim()),
    plain("CI_COMMIT_AUTHOR", author),
    plain("CI_COMMIT_TIMESTAMP", committedAt),
  ];
}

function runnerVariables(job: Job): CiVariable[] {
  if (!job.runner) return [];
  return [
    plain("CI_RUNNER_ID", job.runner.id),
    plain("CI_RUNNER_DESCRIPTION", job.runner.description),
    plain("CI_RUNNER_TAGS", JSON.stringify(job.runner.tags)),
  ];
}
