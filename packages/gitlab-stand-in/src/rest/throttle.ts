import type { Core } from "../core.ts";
import { json, type Reply } from "../exchange.ts";
import { Refused } from "./refused.ts";

// A request that was under way when the limit was met is nobody's fault.
const GRACE_MS = 1_000;

/** The answer of GitLab's outer rate limit, when this request is one too many. */
export function throttle(core: Core, userId: number): Reply | undefined {
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

export function budgetHeaders(core: Core, userId: number): Record<string, string> {
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
