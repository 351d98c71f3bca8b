import type { Core } from "../core.ts";
import { type Exchange, json, parseObject, type Reply, readBody, refuse } from "../exchange.ts";
import { isProcessing, type Runner } from "../model.ts";
import { Refused, readInput } from "../rest/input.ts";

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
export function refuseRunnerToken(core: Core, token: string, what: string): Reply {
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

const MAX_BODY_BYTES = 64 * 1024;

/** `POST /runners/verify`: is this token good? */
export async function verify(core: Core, exchange: Exchange): Promise<Reply> {
  const body = parseObject(await readBody(exchange.request, MAX_BODY_BYTES));
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
