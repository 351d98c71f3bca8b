import type { Core } from "../core.ts";
import { type Exchange, json, type Reply, refuse } from "../exchange.ts";
import type { Group, Project } from "../model.ts";
import {
  type AccessToken,
  hasLevel,
  isExpired,
  levelAt,
  type Role,
  type TokenScope,
  type User,
} from "../tokens.ts";
import { forbidden, type Input, notFound, Refused, readInput } from "./input.ts";

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

// A request that was under way when the limit was met is nobody's fault.
const GRACE_MS = 1_000;

/** The answer of GitLab's outer rate limit, when this request is one too many. */
function throttle(core: Core, userId: number): Reply | undefined {
  const { budgets, clock } = core;
  const budget = budgets.take(userId);
  if (budget.used <= core.behaviour.limits.apiPerUser) return undefined;
  const waitMs = budget.resetsAt - clock.now();
  if (budget.firstRefusedAt !== undefined && clock.now() > budget.firstRefusedAt + GRACE_MS)
    core.report("rate-limit", "REST request before the time that Retry-After named");
  budget.firstRefusedAt ??= clock.now();
  const headers = { "Content-Type": "text/plain", "Retry-After": String(Math.ceil(waitMs / 1_000)) };
  return { status: 429, headers: { ...headers, ...budgetHeaders(core, userId) }, body: "Retry later\n" };
}

function budgetHeaders(core: Core, userId: number): Record<string, string> {
  const { used, resetsAt } = core.budgets.of(userId);
  const limit = core.behaviour.limits.apiPerUser;
  return {
    "RateLimit-Name": "throttle_authenticated_api",
    "RateLimit-Limit": String(limit),
    "RateLimit-Observed": String(used),
    "RateLimit-Remaining": String(Math.max(0, limit - used)),
    "RateLimit-Reset": String(Math.ceil(resetsAt / 1_000)),
    "RateLimit-ResetTime": new Date(resetsAt).toUTCString(),
  };
}

/** 429 of a limit of one endpoint; unlike the outer one it is worded in JSON. */
export function tooManyRequests({ limiter, clock }: Core): Refused {
  const waitSeconds = Math.ceil((limiter.resetsAt() - clock.now()) / 1_000);
  const message = { error: "This endpoint has been requested too many times. Try again later." };
  return new Refused(json(429, { message }, { "Retry-After": String(waitSeconds) }));
}

/** The project of the path, by id or encoded path. What the user may not see is not there. */
export function projectOf({ core, params, user }: RestCall, role: Role = "guest"): Project {
  const project = core.projects.find(params[0] ?? "");
  if (!project || !hasLevel(user, project.path, "guest")) throw notFound("Project");
  if (!hasLevel(user, project.path, role)) throw forbidden();
  return project;
}

/** As `projectOf`, for groups. */
export function groupOf(call: RestCall, role?: Role): Group {
  const group = call.core.groups.find(call.params[0] ?? "");
  if (!group || !maySee(call, group)) throw notFound("Group");
  if (role !== undefined && !hasLevel(call.user, group.path, role)) throw forbidden();
  return group;
}

/** A member of something below sees the groups above it. */
function maySee({ user }: RestCall, group: Group): boolean {
  return (
    hasLevel(user, group.path, "guest") ||
    user.memberships.some(({ path }) => path?.startsWith(`${group.path}/`))
  );
}

export function isMember({ user }: RestCall, project: Project): boolean {
  return levelAt(user, project.path) !== undefined;
}
