import { timingSafeEqual } from "node:crypto";
import type { Core } from "../core.ts";
import { type Exchange, type Reply, refuse } from "../exchange.ts";
import { isProcessing, type Job } from "../model.ts";

const MIN_TOKEN_LIFE_MS = 60_000;
const TOKEN_LEEWAY_MS = 5 * 60_000;

export type JobAccess = { readonly job: Job } | { readonly refusal: Reply };

export function jobTokenHeader(exchange: Exchange): string | undefined {
  const value = exchange.request.headers["job-token"];
  return typeof value === "string" ? value : undefined;
}

/** True when `token` is this job's and has not run out. */
export function isTokenOf(core: Core, job: Job, token: string): boolean {
  return sameText(job.token, token) && core.clock.now() <= tokenExpiry(job);
}

function tokenExpiry(job: Job): number {
  const start = job.startedAt ?? Number.POSITIVE_INFINITY;
  return start + Math.max(MIN_TOKEN_LIFE_MS, job.definition.timeoutSeconds * 1_000) + TOKEN_LEEWAY_MS;
}

function sameText(expected: string, given: string): boolean {
  const [a, b] = [Buffer.from(expected), Buffer.from(given)];
  return a.length === b.length && timingSafeEqual(a, b);
}

/**
 * The job of the path, if `token` opens it and GitLab still takes something for it. Unknown job and wrong token look the
 * same from outside; only the owner of the token hears `Job-Status`.
 */
export function authenticateJob(
  core: Core,
  exchange: Exchange,
  token: string | undefined,
  what: string,
): JobAccess {
  const job = exchange.jobId === undefined ? undefined : core.jobs.get(exchange.jobId);
  if (!job || token === undefined || !sameText(job.token, token)) {
    core.report("wrong-token", `${what} with a token that is not this job's`, exchange.jobId);
    return { refusal: refuse(403, "403 Forbidden") };
  }
  if (core.clock.now() > tokenExpiry(job)) {
    core.jobs.end(job, { status: "failed", failureReason: "job_token_expired" });
    return { refusal: forbidden(job) };
  }
  return isProcessing(job) ? { job } : { refusal: refuseEnded(core, exchange, job, what) };
}

function refuseEnded(core: Core, exchange: Exchange, job: Job, what: string): Reply {
  // After a cancel, and as long as the runner cannot know of the end, asking once more is what a good runner does.
  const innocent = job.canceledAt !== undefined || !job.endAnswered || exchange.at <= (job.finishedAt ?? 0);
  if (!innocent) {
    const rule = what === "heartbeat" ? "heartbeat-after-end" : "update-after-end";
    core.report(rule, `${what} after the end (${job.status})`, job.id);
  }
  return forbidden(job);
}

function forbidden(job: Job): Reply {
  return {
    ...refuse(403, "403 Forbidden - Job is not processing on runner", { "Job-Status": job.status }),
    onSent: () => {
      job.endAnswered = true;
    },
  };
}

/** 429 as GitLab's limiter words it. */
export function tooMany(core: Core, what: string, jobId?: number): Reply {
  core.report("rate-limit", `${what}: more than GitLab allows in a minute`, jobId);
  return refuse(429, "This endpoint has been requested too many times. Try again later.", {
    "Retry-After": "60",
  });
}
