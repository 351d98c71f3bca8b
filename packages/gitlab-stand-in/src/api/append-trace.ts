import { TooLongError } from "../../../../src/base/read-bounded.ts";
import type { Core } from "../core.ts";
import { type Exchange, json, type Reply, readBody, refuse } from "../exchange.ts";
import type { Job } from "../model.ts";
import { authenticateJob, jobTokenHeader, tooMany } from "./authenticate.ts";
import { traceIntervalSeconds } from "./update-job.ts";

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
  job.guestSeenAt ??= exchange.at;
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
