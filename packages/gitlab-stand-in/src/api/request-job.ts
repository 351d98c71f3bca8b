import { TooLongError } from "../../../../src/base/read-bounded.ts";
import type { Core } from "../core.ts";
import { type Exchange, json, parseObject, type Reply, readBody, refuse } from "../exchange.ts";
import type { Job, Runner } from "../model.ts";
import { dependenciesOf, jobPayload } from "../payload.ts";
import { canRun } from "../runners.ts";
import { tooMany } from "./authenticate.ts";
import { refuseRunnerToken } from "./runner-tokens.ts";

const MAX_BODY_BYTES = 32 * 1024;

/**
 * `POST /jobs/request`. In front stands what Workhorse does (size limit, long poll), behind it what Rails does. A request
 * held by the long poll always ends 204 without `X-GitLab-Last-Update`, also when a job has come: the client asks again.
 */
export async function requestJob(core: Core, exchange: Exchange): Promise<Reply> {
  const read = await readRequest(core, exchange);
  if ("status" in read) return read;
  const runner = core.runners.byToken(read.token);
  if (!runner) return refuseRunnerToken(core, read.token, "job request");
  if (!core.limiter.allow(`request ${runner.id}`, core.behaviour.limits.jobRequestsPerRunner))
    return tooMany(core, "job request");
  core.runners.contact(runner, read.info, read.systemId);
  runner.creationFinished = true;
  const current = core.runners.lastUpdate(runner);
  const polling = core.behaviour.longPollMs > 0;
  if (read.lastUpdate === current && polling) {
    await core.runners.waitForChange(runner, core.behaviour.longPollMs, exchange.signal);
    return { status: 204, headers: { "Gitlab-Ci-Builds-Polling": "yes" } };
  }
  const nothing: Reply = { status: 204, headers: { "X-GitLab-Last-Update": current } };
  if (read.lastUpdate === current || runner.paused) return nothing;
  const job = pick(core, runner);
  return job ? json(201, jobPayload(job, core.pipelines.jobs(job.pipeline), core.url())) : nothing;
}

interface ReadRequest {
  readonly token: string;
  readonly lastUpdate: string | undefined;
  readonly info: unknown;
  readonly systemId: unknown;
}

async function readRequest(core: Core, exchange: Exchange): Promise<ReadRequest | Reply> {
  let bytes: Buffer;
  try {
    bytes = await readBody(exchange.request, MAX_BODY_BYTES);
  } catch (error) {
    if (!(error instanceof TooLongError)) throw error;
    core.report("bad-request", "job request of more than 32 KiB");
    return refuse(413, "413 Request Entity Too Large");
  }
  const body = parseObject(bytes);
  const token = body?.["token"];
  if (
    !exchange.request.headers["content-type"]?.startsWith("application/json") ||
    typeof token !== "string"
  ) {
    core.report("bad-request", "job request without application/json or token");
    return json(400, { error: "token is missing" });
  }
  const info = body?.["info"] as { features?: unknown } | undefined;
  if (typeof info?.features !== "object") core.report("no-runner-info", "job request without info.features");
  const lastUpdate = body?.["last_update"];
  return {
    token,
    lastUpdate: typeof lastUpdate === "string" && lastUpdate !== "" ? lastUpdate : undefined,
    info,
    systemId: body?.["system_id"],
  };
}

/** The oldest pending job that this runner may take and can do. Jobs that it cannot do fail, as in GitLab. */
function pick(core: Core, runner: Runner): Job | undefined {
  const pending = core.jobs.all().filter((job) => job.status === "pending" && canRun(runner, job));
  for (const job of pending) {
    const problem = refusalReason(core, job, runner);
    if (problem === undefined) {
      core.jobs.claim(job, runner, runner.info);
      return job;
    }
    core.jobs.end(job, { status: "failed", failureReason: problem });
  }
  return undefined;
}

function refusalReason(core: Core, job: Job, runner: Runner): string | undefined {
  const features = (runner.info?.["features"] ?? {}) as Record<string, unknown>;
  const { artifacts, allowFailure } = job.definition;
  const needed = [
    ...(artifacts && artifacts.exclude.length > 0 ? ["artifacts_exclude"] : []),
    ...(typeof allowFailure === "object" ? ["return_exit_code"] : []),
  ];
  if (needed.some((feature) => features[feature] !== true)) return "runner_unsupported";
  const now = core.clock.now();
  const expired = dependenciesOf(job, core.pipelines.jobs(job.pipeline)).some((other) =>
    other.artifacts.some(
      ({ type, expiresAt }) => type === "archive" && expiresAt !== undefined && expiresAt < now,
    ),
  );
  return expired ? "missing_dependency_failure" : undefined;
}
