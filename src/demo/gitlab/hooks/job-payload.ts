import type { Job } from "../model.ts";

/** The body of a Job Hook. As in GitLab, the tags of the job are not in it; `tag` says whether a Git tag was built. */
export function jobHookPayload(job: Job, serverUrl: string): object {
  const { project, pipeline, definition } = job;
  const name = project.path.split("/").join(" / ");
  return {
    object_kind: "build",
    ref: pipeline.ref,
    tag: false,
    before_sha: "0".repeat(40),
    sha: pipeline.sha,
    retries_count: job.retryCount,
    build_id: job.id,
    build_name: definition.name,
    build_stage: definition.stage,
    build_status: job.status,
    build_created_at_iso: iso(pipeline.createdAt),
    build_started_at_iso: iso(job.startedAt),
    build_finished_at_iso: iso(job.finishedAt),
    build_allow_failure: definition.allowFailure !== false,
    build_failure_reason: job.failureReason ?? "unknown_failure",
    pipeline_id: pipeline.id,
    runner: job.runner
      ? { id: job.runner.id, description: job.runner.description, active: true, tags: job.runner.tags }
      : null,
    project_id: project.id,
    project_name: name,
    user: { id: 1, name: "Demo", username: "demo", email: "[REDACTED]" },
    commit: { id: pipeline.id, name: null, sha: pipeline.sha, message: "", status: "running" },
    repository: { name, url: `${serverUrl}/${project.path}.git`, visibility_level: 0 },
    project: {
      id: project.id,
      name,
      web_url: `${serverUrl}/${project.path}`,
      path_with_namespace: project.path,
    },
    environment: null,
  };
}

function iso(at: number | undefined): string | null {
  return at === undefined ? null : new Date(at).toISOString();
}
