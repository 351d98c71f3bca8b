/** What runners do with their own token: ask for a job, verify it, renew it, delete themselves. */
import { TooLongError } from "../../../../src/base/read-bounded.ts";
import type { Core } from "../core.ts";
import { type Exchange, json, parseObject, type Reply, readBody, refuse } from "../exchange.ts";
import { isProcessing, type Job, type Runner } from "../model.ts";
import { dependenciesOf, jobPayload } from "../payload.ts";
import { Refused, readInput } from "../rest/input.ts";
import { canRun } from "../runners.ts";
import { tooMany } from "./jobs.ts";

const MAX_REQUEST_BYTES = 32 * 1024;

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
    bytes = await readBody(exchange.request, MAX_REQUEST_BYTES);
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

/** `DELETE /runners`: a runner unregisters itself; its token is all it needs. */
export async function deleteByToken(core: Core, exchange: Exchange): Promise<Reply> {
  const token = await readToken(core, exchange);
  if (typeof token !== "string") return token;
  const runner = core.runners.byToken(token);
  if (!runner) return refuseRunnerToken(core, token, "deletion");
  deleteForClient(core, runner);
  return { status: 204 };
}

/** `POST /runners/reset_authentication_token`: the old token is good for nothing from the answer on. */
export async function resetToken(core: Core, exchange: Exchange): Promise<Reply> {
  const token = await readToken(core, exchange);
  if (typeof token !== "string") return token;
  const runner = core.runners.byToken(token);
  if (!runner) return refuseRunnerToken(core, token, "reset");
  core.runners.resetToken(runner, "client");
  return json(201, { token: runner.token, token_expires_at: tokenExpiry(runner) });
}

async function readToken(core: Core, exchange: Exchange): Promise<string | Reply> {
  try {
    return (await readInput(exchange)).requiredText("token");
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    core.report("bad-request", `${exchange.request.method} ${exchange.url.pathname} without a token`);
    return error.reply;
  }
}

// A client hears of a token that was taken away by being refused, but need not hear it often.
const REFUSALS_PER_MINUTE = 10;

/** 403 for a token that no runner has. */
function refuseRunnerToken(core: Core, token: string, what: string): Reply {
  const isInnocent =
    core.runners.isTakenAway(token) && core.limiter.allow(`refused ${token}`, REFUSALS_PER_MINUTE);
  if (!isInnocent) core.report("wrong-token", `${what} with a token that no runner has`);
  return refuse(403, "403 Forbidden");
}

export function tokenExpiry({ tokenExpiresAt }: Runner): string | null {
  return tokenExpiresAt === undefined ? null : new Date(tokenExpiresAt).toISOString();
}

/** GitLab does not mind a job that runs; but whoever deletes its runner leaves it with nobody who watches it. */
export function deleteForClient(core: Core, runner: Runner): void {
  const unfinished = core.jobs.all().find((job) => job.runner === runner && isProcessing(job));
  if (unfinished)
    core.report("runner-deleted-early", `runner ${runner.id} deleted while its job ran`, unfinished.id);
  core.runners.remove(runner.id, "client");
}

const MAX_VERIFY_BYTES = 64 * 1024;

/** `POST /runners/verify`: is this token good? */
export async function verify(core: Core, exchange: Exchange): Promise<Reply> {
  const body = parseObject(await readBody(exchange.request, MAX_VERIFY_BYTES));
  const token = body?.["token"];
  if (typeof token !== "string") {
    core.report("bad-request", "verify without a token");
    return json(400, { error: "token is missing" });
  }
  const runner = core.runners.byToken(token);
  if (!runner) return refuseRunnerToken(core, token, "verify");
  core.runners.contact(runner, body?.["info"], body?.["system_id"]);
  return json(200, { id: runner.id, token: runner.token, token_expires_at: tokenExpiry(runner) });
}

/** `GET /version`: for users only. That it refuses in JSON is how others tell a GitLab. */
export async function version(core: Core, { request }: Exchange): Promise<Reply> {
  const given = request.headers["private-token"];
  const isKnown = typeof given === "string" && core.tokens.byValue(given) !== undefined;
  if (!isKnown) return refuse(401, "401 Unauthorized");
  return json(200, { version: core.behaviour.hooks.version, revision: "0123456789a" });
}
