import { archiveOf, type Job } from "./model.ts";
import { repositoryUrl, variablesOf } from "./variables.ts";

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
    image: definition.image ? { entrypoint: null, ports: [], ...definition.image } : null,
    services: [],
    artifacts: artifactsOf(job),
    cache: [],
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
    },
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
