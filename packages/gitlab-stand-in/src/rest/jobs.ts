import { json, type Reply, refuse } from "../exchange.ts";
import type { Job } from "../model.ts";
import type { RestCall } from "./access.ts";
import { jobEntity } from "./job-entity.ts";
import { page } from "./pages.ts";
import { forbidden, invalidParameter, notFound, type Refused } from "./refused.ts";
import { projectOf } from "./scopes.ts";
import { tooManyRequests } from "./throttle.ts";

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
