import type { Core } from "../core.ts";
import { json, type Reply, refuse } from "../exchange.ts";
import { isForgiven, type Job } from "../model.ts";
import { projectOf, type RestCall, tooManyRequests } from "./access.ts";
import { forbidden, invalidParameter, notFound, page, type Refused } from "./input.ts";
import { userEntity } from "./namespaces.ts";
import { runnerEntity } from "./new-runners.ts";

const statuses: readonly string[] = [
  "created",
  "waiting_for_resource",
  "preparing",
  "waiting_for_callback",
  "pending",
  "running",
  "success",
  "failed",
  "canceling",
  "canceled",
  "skipped",
  "manual",
  "scheduled",
];

/** `GET /projects/:id/jobs`: newest first, without a count. */
export function listJobs(call: RestCall): Reply {
  const { core, user } = call;
  if (!core.limiter.allow(`jobs ${user.id}`, core.behaviour.limits.jobListsPerUser)) throw tooManyLists(call);
  const project = projectOf(call, "reporter");
  const scope = call.input.list("scope");
  if (scope?.some((each) => !statuses.includes(each)))
    throw invalidParameter("scope does not have a valid value");
  const jobs = core.jobs
    .all()
    .filter((job) => job.project === project && (scope === undefined || scope.includes(job.status)))
    .toSorted((a, b) => b.id - a.id);
  return page(call, jobs, (job) => jobEntity(core, job), { keyset: true, counted: false });
}

function tooManyLists({ core }: RestCall): Refused {
  core.report("rate-limit", "lists of jobs: more than GitLab allows in a minute");
  return tooManyRequests(core);
}

/** `GET /projects/:id/jobs/:job_id`. */
export function showJob(call: RestCall): Reply {
  return json(200, jobEntity(call.core, jobOf(call)));
}

/** `POST /projects/:id/jobs/:job_id/cancel`. */
export function cancelJob(call: RestCall): Reply {
  const job = jobOf(call, "developer");
  call.core.jobs.cancel(job);
  return json(201, jobEntity(call.core, job));
}

/** `POST /projects/:id/jobs/:job_id/retry`. */
export function retryJob(call: RestCall): Reply {
  const job = jobOf(call, "developer");
  const isRetryable = ["success", "failed", "canceled"].includes(job.status) && job.retriedAs === undefined;
  if (!isRetryable) throw forbidden("Job is not retryable");
  return json(201, jobEntity(call.core, call.core.pipelines.retry(job)));
}

/** `GET /projects/:id/jobs/:job_id/trace`. */
export function showTrace(call: RestCall): Reply {
  const body = jobOf(call).trace.text();
  return { ...refuse(200, ""), headers: { "Content-Type": "text/plain" }, body };
}

function jobOf(call: RestCall, role: "reporter" | "developer" = "reporter"): Job {
  const project = projectOf(call, role);
  const job = call.core.jobs.get(Number(call.params[1]));
  if (!job || job.project !== project) throw notFound();
  return job;
}

/** A job as lists and single jobs show it: the only place in GitLab's API where a job's own tags are. */
function jobEntity(core: Core, job: Job): Record<string, unknown> {
  const { definition } = job;
  return {
    ...jobBasics(core, job),
    project: { ci_job_token_scope_enabled: false },
    artifacts: job.artifacts.map((artifact) => ({
      file_type: artifact.type,
      size: artifact.sizeBytes,
      filename: artifact.filename,
      file_format: artifact.format,
    })),
    ...claimedBy(core, job),
    artifacts_expire_at: null,
    archived: false,
    tag_list: [...definition.tags].sort(),
  };
}

/** A job in the list of a runner's jobs: with its project, without its tags. */
export function runnerJobEntity(core: Core, job: Job): Record<string, unknown> {
  const { project } = job;
  const name = project.path.split("/").at(-1);
  return {
    ...jobBasics(core, job),
    project: { id: project.id, name, path: name, path_with_namespace: project.path },
  };
}

function jobBasics(core: Core, job: Job): Record<string, unknown> {
  const { definition, pipeline, project } = job;
  const projectUrl = `${core.url()}/${project.path}`;
  return {
    id: job.id,
    status: job.status,
    stage: definition.stage,
    name: definition.name,
    ref: pipeline.ref,
    tag: false,
    coverage: null,
    allow_failure: isForgiven(job),
    created_at: date(job.createdAt),
    started_at: date(job.startedAt),
    finished_at: date(job.finishedAt),
    erased_at: null,
    duration: seconds(job.startedAt, job.finishedAt ?? core.clock.now()),
    queued_duration: seconds(job.pendingAt, job.startedAt ?? core.clock.now()),
    user: jobUser(core),
    commit: { id: pipeline.sha, short_id: pipeline.sha.slice(0, 8), title: "Start" },
    pipeline: {
      id: pipeline.id,
      iid: pipeline.id,
      project_id: project.id,
      sha: pipeline.sha,
      ref: pipeline.ref,
      status: core.pipelines.status(pipeline),
      source: "push",
      created_at: date(pipeline.createdAt),
      updated_at: date(pipeline.createdAt),
      web_url: `${projectUrl}/-/pipelines/${pipeline.id}`,
    },
    ...(job.failureReason === undefined ? {} : { failure_reason: job.failureReason }),
    web_url: `${projectUrl}/-/jobs/${job.id}`,
  };
}

function jobUser(core: Core): unknown {
  const user = core.tokens.user(1);
  return user ? userEntity(user, core.url()) : null;
}

function claimedBy(core: Core, job: Job): Record<string, unknown> {
  const runner = job.runner && core.runners.get(job.runner.id);
  // GitLab forgets who ran a job when the runner is deleted.
  if (!runner) return { runner: null, runner_manager: null };
  const { info } = runner;
  return {
    runner: runnerEntity(core, runner),
    runner_manager: {
      id: runner.id,
      system_id: job.systemId ?? "<legacy>",
      version: info?.["version"] ?? null,
      revision: info?.["revision"] ?? null,
      platform: info?.["platform"] ?? null,
      architecture: info?.["architecture"] ?? null,
      created_at: date(runner.createdAt),
      contacted_at: date(runner.contactedAt),
      ip_address: "127.0.0.1",
      status: core.runners.isOnline(runner) ? "online" : "offline",
    },
  };
}

function date(at: number | undefined): string | null {
  return at === undefined ? null : new Date(at).toISOString();
}

function seconds(from: number | undefined, to: number): number | null {
  return from === undefined ? null : (to - from) / 1_000;
}
