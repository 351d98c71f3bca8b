/** What runners report of a job: its heartbeats and end, its log; and with which token they may. */
import { timingSafeEqual } from "node:crypto";
import { TooLongError } from "../../../../src/base/read-bounded.ts";
import { MIB_BYTES } from "../../../../src/base/units.ts";
import type { Core } from "../core.ts";
import { type Exchange, json, parseObject, type Reply, readBody, refuse } from "../exchange.ts";
import { isProcessing, type Job } from "../model.ts";
import { failureReasons } from "../payload.ts";

const MIN_TOKEN_LIFE_MS = 60_000;
const TOKEN_LEEWAY_MS = 5 * 60_000;

type JobAccess = { readonly job: Job } | { readonly refusal: Reply };

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

const MAX_BODY_BYTES = MIB_BYTES;

/** `PUT /jobs/:id`: a heartbeat (`running`) or the end of the job. `Job-Status` is the status after the update. */
export async function updateJob(core: Core, exchange: Exchange): Promise<Reply> {
  const bytes = await readBody(exchange.request, MAX_BODY_BYTES);
  const body = parseObject(bytes);
  const token = body?.["token"];
  if (!body || typeof token !== "string") {
    core.report("bad-request", "update without a token in its body", exchange.jobId);
    return json(400, { error: "token is missing" });
  }
  const { updatesPerJob } = core.behaviour.limits;
  if (!core.limiter.allow(`update ${token}`, updatesPerJob)) return tooMany(core, "update", exchange.jobId);
  const state = body["state"];
  const access = authenticateJob(core, exchange, token, state === "running" ? "heartbeat" : "final update");
  if ("refusal" in access) return access.refusal;
  const { job } = access;
  if (state === "running") return answer(200, job);
  if (state !== "success" && state !== "failed") {
    core.report("bad-request", `update to the unknown state ${JSON.stringify(state)}`, job.id);
    return answer(400, job);
  }
  return endJob(core, job, state, body, bytes.toString("utf8"));
}

function endJob(
  core: Core,
  job: Job,
  state: "success" | "failed",
  body: Readonly<Record<string, unknown>>,
  text: string,
): Reply {
  checkTrace(core, job, body);
  if (job.heldUpdate !== undefined && endOf(job.heldUpdate) !== endOf(text))
    core.report("update-changed", "the update after a 202 says something else", job.id);
  const { heldFinalUpdates, heldIntervalSeconds } = core.behaviour;
  if (job.heldCount < heldFinalUpdates) {
    job.heldCount++;
    job.heldUpdate = text;
    return answer(202, job, heldIntervalSeconds);
  }
  const exitCode = body["exit_code"];
  core.jobs.end(job, {
    status: state,
    failureReason: reasonOf(body["failure_reason"]),
    exitCode: typeof exitCode === "number" ? exitCode : undefined,
  });
  return {
    ...answer(200, job),
    onSent: () => {
      job.endAnswered = true;
    },
  };
}

/** The parts of an update that must not change when it is sent again. */
function endOf(text: string): string {
  const { state, failure_reason, exit_code, output } = JSON.parse(text);
  return JSON.stringify({ state, failure_reason, exit_code, output });
}

function reasonOf(given: unknown): string | undefined {
  if (given === undefined || given === "") return undefined;
  return typeof given === "string" && failureReasons.includes(given) ? given : "unknown_failure";
}

/** GitLab stores what it has and only counts a mismatch; here it is remembered so that a test can fail. */
function checkTrace(core: Core, job: Job, body: Readonly<Record<string, unknown>>): void {
  const output = body["output"] as { checksum?: unknown; bytesize?: unknown } | undefined;
  const claimed = output?.checksum ?? body["checksum"];
  if (typeof claimed !== "string") return;
  const actual = job.trace.checksum();
  const claimedBytes = typeof output?.bytesize === "number" ? output.bytesize : undefined;
  const matches = claimed === actual && (claimedBytes ?? job.trace.sizeBytes) === job.trace.sizeBytes;
  job.traceCheck = { claimed, actual, claimedBytes, actualBytes: job.trace.sizeBytes, matches };
  if (!matches) {
    const detail = `claimed ${claimed} of ${claimedBytes} bytes, stored ${actual} of ${job.trace.sizeBytes}`;
    core.report("trace-checksum", detail, job.id);
  }
}

function traceIntervalSeconds(job: Job): number {
  return job.watched ? 3 : 60;
}

function answer(status: number, job: Job, intervalSeconds = traceIntervalSeconds(job)): Reply {
  return json(status, status, {
    "Job-Status": job.status,
    "X-GitLab-Trace-Update-Interval": String(intervalSeconds),
  });
}

/** `PATCH /jobs/:id/trace`. GitLab reads only the start of `Content-Range`; the end it counts itself. */
export async function appendTrace(core: Core, exchange: Exchange): Promise<Reply> {
  const token = jobTokenHeader(exchange);
  const { limits, maxTraceBytes } = core.behaviour;
  if (!core.limiter.allow(`trace ${token}`, limits.tracesPerJob))
    return tooMany(core, "trace", exchange.jobId);
  // Read first: the job may be canceled while the body is on its way.
  const body = await readBody(exchange.request, maxTraceBytes + 1).catch(tooLargeAsNothing);
  const access = authenticateJob(core, exchange, token, "trace");
  if ("refusal" in access) return access.refusal;
  const { job } = access;
  const startBytes = rangeStart(exchange);
  if (startBytes === undefined) {
    core.report("bad-request", "trace without a Content-Range", job.id);
    return refuse(400, "400 Missing header Content-Range");
  }
  if (body === undefined || startBytes + body.length > maxTraceBytes) {
    core.jobs.end(job, { status: "failed", failureReason: "trace_size_exceeded" });
    return refuse(403, "403 Forbidden - Job is not processing on runner", { "Job-Status": job.status });
  }
  return append(core, job, body, startBytes);
}

function tooLargeAsNothing(error: unknown): undefined {
  if (!(error instanceof TooLongError)) throw error;
}

function rangeStart(exchange: Exchange): number | undefined {
  const range = exchange.request.headers["content-range"];
  const start = typeof range === "string" ? /^(\d+)-\d+$/.exec(range)?.[1] : undefined;
  return start === undefined ? undefined : Number(start);
}

function append(core: Core, job: Job, body: Buffer, startBytes: number): Reply {
  const outcome = job.trace.append(body, startBytes);
  const headers = { "Job-Status": job.status, Range: `0-${outcome.sizeBytes}` };
  if (outcome.kind === "elsewhere") {
    core.report("trace-range", `trace at ${startBytes}, GitLab holds ${outcome.sizeBytes}`, job.id);
    return json(416, 416, headers);
  }
  if (outcome.repeated === "different")
    core.report("trace-changed", `other bytes at ${startBytes} than the first time`, job.id);
  const interval = String(traceIntervalSeconds(job));
  return json(202, 202, { ...headers, "X-GitLab-Trace-Update-Interval": interval });
}
