import type { IncomingHttpHeaders } from "node:http";
import type { RateBudget } from "./rest-api.ts";

/** The `RateLimit-*` headers of an answer; undefined when GitLab counts nothing or does not say. */
export function rateBudgetOf(headers: IncomingHttpHeaders): RateBudget | undefined {
  const limit = numberOf(headers["ratelimit-limit"]);
  const remaining = numberOf(headers["ratelimit-remaining"]);
  const resetSeconds = numberOf(headers["ratelimit-reset"]);
  if (limit === undefined || remaining === undefined || resetSeconds === undefined) return undefined;
  return { limit, remaining, resetsAt: resetSeconds * 1_000 };
}

function numberOf(value: string | string[] | undefined): number | undefined {
  const text = Array.isArray(value) ? value[0] : value;
  return text !== undefined && /^\d{1,12}$/.test(text) ? Number(text) : undefined;
}
