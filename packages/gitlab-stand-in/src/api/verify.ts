import type { Core } from "../core.ts";
import { type Exchange, json, type Reply, readBody } from "../exchange.ts";
import { refuseRunnerToken, tokenExpiry } from "../runner-token.ts";

const MAX_BODY_BYTES = 64 * 1024;

export function parseObject(body: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(body.toString("utf8"));
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

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
