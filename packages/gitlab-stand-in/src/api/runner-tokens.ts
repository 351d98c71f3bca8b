import type { Core } from "../core.ts";
import { type Exchange, json, type Reply } from "../exchange.ts";
import { readInput } from "../rest/input.ts";
import { Refused } from "../rest/refused.ts";
import { deleteForClient, refuseRunnerToken, tokenExpiry } from "../runner-token.ts";

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
