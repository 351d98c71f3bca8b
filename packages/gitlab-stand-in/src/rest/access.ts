import type { Core } from "../core.ts";
import { type Exchange, json, type Reply, refuse } from "../exchange.ts";
import { type AccessToken, isExpired, type TokenScope, type User } from "../tokens.ts";
import { type Input, readInput } from "./input.ts";
import { Refused } from "./refused.ts";
import { budgetHeaders, throttle } from "./throttle.ts";

/** One request of the REST API whose token is good for it. */
export interface RestCall {
  readonly core: Core;
  readonly exchange: Exchange;
  readonly user: User;
  readonly token: AccessToken;
  /** What the path's groups matched, decoded. */
  readonly params: readonly string[];
  /** The query and the body together. */
  readonly input: Input;
}

export type RestHandler = (call: RestCall) => Promise<Reply> | Reply;

/**
 * The way in that all routes of the REST API share: rate limit, token, scope, input. `api` is good for everything and `read_api` for
 * every GET; `scopes` are what else is good for this route.
 */
export async function serveRest(
  core: Core,
  exchange: Exchange,
  scopes: readonly TokenScope[] | "any",
  handle: RestHandler,
): Promise<Reply> {
  const token = findToken(core, exchange);
  if (!token) return unknownToken(core);
  const throttled = throttle(core, token.user.id);
  if (throttled) return throttled;
  const reply = refusal(core, exchange, token, scopes) ?? (await answer(core, exchange, token, handle));
  return { ...reply, headers: { ...reply.headers, ...budgetHeaders(core, token.user.id) } };
}

function findToken(core: Core, { request, url }: Exchange): AccessToken | undefined {
  if (url.searchParams.has("private_token"))
    core.report("leaked-credentials", "an access token in an address, which ends up in logs");
  const bearer = /^Bearer (.+)$/i.exec(request.headers.authorization ?? "")?.[1];
  const given = request.headers["private-token"] ?? bearer;
  return typeof given === "string" ? core.tokens.byValue(given) : undefined;
}

function unknownToken(core: Core): Reply {
  core.report("wrong-token", "REST request without an access token that is known");
  return refuse(401, "401 Unauthorized");
}

function refusal(
  core: Core,
  { request }: Exchange,
  token: AccessToken,
  scopes: readonly TokenScope[] | "any",
): Reply | undefined {
  if (token.revoked) return invalidToken("Token was revoked. You have to re-authorize from the user.");
  if (isExpired(token, core.clock.now()))
    return invalidToken("Token is expired. You can either do re-authorization or token refresh.");
  if (scopes === "any") return undefined;
  const good: readonly TokenScope[] = [
    "api",
    ...(request.method === "GET" ? ["read_api" as const] : []),
    ...scopes,
  ];
  if (token.scopes.some((scope) => good.includes(scope))) return undefined;
  return json(403, {
    error: "insufficient_scope",
    error_description: "The request requires higher privileges than provided by the access token.",
    scope: good.join(" "),
  });
}

function invalidToken(description: string): Reply {
  return json(401, { error: "invalid_token", error_description: description });
}

async function answer(
  core: Core,
  exchange: Exchange,
  token: AccessToken,
  handle: RestHandler,
): Promise<Reply> {
  try {
    const input = await readInput(exchange);
    return await handle({ core, exchange, user: token.user, token, params: exchange.params, input });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.isMistake) core.report("bad-request", `REST ${exchange.url.pathname}: ${error.reply.body}`);
    return error.reply;
  }
}
