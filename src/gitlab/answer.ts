/** GitLab's answers: read within a bound, what headers and body say of waits, limits and refusals, and the error that each failure is. */
import type { IncomingHttpHeaders } from "node:http";
import type { Dispatcher } from "undici";
import { retryAfterMs, single, untilDateMs } from "../base/headers.ts";
import { readBounded, TooLongError } from "../base/read-bounded.ts";
import { GitLabError, gitLabErrorOf, refusedCertificate } from "./errors.ts";
import type { RateBudget } from "./rest-api.ts";

/** An answer read to its end, or to where it broke. */
export interface Answer {
  readonly status: number;
  readonly headers: Dispatcher.ResponseData["headers"];
  readonly text: string;
  /** Why the body ended early; undefined when it is whole. */
  readonly cut: unknown;
}

/**
 * Reads at most `maxBytes` of a body. What arrived before a break is kept: it may name a job. Throws GitLabError
 * `gitlab_client_certificate` for an answer that asks for one.
 */
export async function readAnswer(response: Dispatcher.ResponseData, maxBytes: number): Promise<Answer> {
  const read = await readBounded(response.body, maxBytes);
  const tooLong = () => new Error(`the answer is longer than ${maxBytes} bytes`);
  const cut = read.cut instanceof TooLongError ? tooLong() : read.cut;
  const { statusCode: status, headers } = response;
  const text = read.bytes.toString("utf8");
  const refused = refusedCertificate(status, text);
  if (refused !== undefined) throw refused;
  return { status, headers, text, cut };
}

export function header(answer: Pick<Answer, "headers">, name: string): string | undefined {
  return single(answer.headers[name]);
}

/** The body as JSON, or undefined when it is none. */
export function jsonOf(answer: Answer): unknown {
  if (answer.cut !== undefined) return undefined;
  try {
    return JSON.parse(answer.text);
  } catch {
    return undefined;
  }
}

/** Enough for a sentence or two; the rest is in GitLab's own log. */
const MAX_WORDS = 300;
/** GitLab's messages are at most an object of lists. */
const MAX_DEPTH = 4;

const tokenLike =
  /\b(?:gl(?:pat|rtr?|cbt|dt|ptt|ft|soat|agent|imt|ffct|oas|wt)-|GR1348941|whsec_)[\w+/=.-]*/g;

/** What GitLab says about a refusal, on one line; "" when it says nothing. No token is in it, whatever was sent. */
export function messageOf(answer: Answer): string {
  const json = jsonOf(answer);
  if (typeof json !== "object" || json === null) return "";
  const { message, error, error_description, scope } = json as Record<string, unknown>;
  const said = [message, error, error_description].map((each) => flatten(each)).filter((each) => each !== "");
  const scopes = flatten(scope);
  if (scopes !== "") said.push(`scope ${scopes}`);
  return shortened(withoutTokens([...new Set(said)].join(", ")));
}

/** Anything that looks like one of GitLab's tokens, blotted out. */
function withoutTokens(text: string): string {
  return text.replace(tokenLike, "[secret]");
}

/** A string, a list, or an object of either, such as `{ "tag_list": ["is too long"] }`. */
function flatten(value: unknown, depth = 0): string {
  if (typeof value === "string" || typeof value === "number") return String(value);
  if (typeof value !== "object" || value === null || depth === MAX_DEPTH) return "";
  if (Array.isArray(value)) return joined(value.map((each) => flatten(each, depth + 1)));
  return joined(
    Object.entries(value).map(([name, each]) => {
      const words = flatten(each, depth + 1);
      return words === "" ? "" : `${name} ${words}`;
    }),
  );
}

function joined(parts: readonly string[]): string {
  return parts.filter((part) => part !== "").join(", ");
}

function shortened(text: string): string {
  // Answers are foreign: neither line ends nor control characters of theirs get into a log.
  const line = text.replace(/[\s\p{Cc}\p{Cf}]+/gu, " ").trim();
  return line.length <= MAX_WORDS ? line : `${line.slice(0, MAX_WORDS)}…`;
}

/** A server that names a later time than this is not believed. */
const LONGEST_WAIT_MS = 3_600_000;

/**
 * The wait that an answer asks for, in ms: the longest of `Retry-After` (seconds or HTTP date), `RateLimit-ResetTime` (HTTP date)
 * and `RateLimit-Reset` (epoch seconds). The RateLimit headers count only on a 429: GitLab sends them with good answers too.
 * 0 when nothing is asked for.
 */
export function requestedWaitMs(status: number, headers: IncomingHttpHeaders, now: number): number {
  const waits = [retryAfterMs(headers["retry-after"], now)];
  if (status === 429) {
    waits.push(untilDateMs(single(headers["ratelimit-resettime"]), now));
    waits.push(untilEpochSecondsMs(single(headers["ratelimit-reset"]), now));
  }
  return Math.min(LONGEST_WAIT_MS, Math.max(0, ...waits));
}

function untilEpochSecondsMs(value: string | undefined, now: number): number {
  return value !== undefined && /^\d+$/.test(value) ? Number(value) * 1_000 - now : 0;
}

/** The `RateLimit-*` headers of an answer; undefined when GitLab counts nothing or does not say. */
export function rateBudgetOf(headers: IncomingHttpHeaders): RateBudget | undefined {
  const limit = numberOf(headers["ratelimit-limit"]);
  const remaining = numberOf(headers["ratelimit-remaining"]);
  const resetSeconds = numberOf(headers["ratelimit-reset"]);
  if (limit === undefined || remaining === undefined || resetSeconds === undefined) return undefined;
  return { limit, remaining, resetsAt: resetSeconds * 1_000 };
}

function numberOf(value: string | string[] | undefined): number | undefined {
  const text = single(value);
  return text !== undefined && /^\d{1,12}$/.test(text) ? Number(text) : undefined;
}

/** One request, with what its failure has to be explained by. */
export interface RestCall {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** Below `/api/v4`, with the query. */
  readonly path: string;
  readonly body?: object;
  /** What we are doing, for the message of an error. */
  readonly doing: string;
  /** The narrowest scope of an access token that allows the call; `api` always does. */
  readonly scope: "api" | "read_api" | "read_user" | "create_runner" | "manage_runner";
  /** What the token's user needs besides, such as `the role Owner in group x`. */
  readonly role?: string;
  /** What a 404 means here and what to do. */
  readonly missing?: string;
  /** What to do about a refusal (400, 422 and the like), by GitLab's words. */
  readonly advise?: (words: string) => string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** An answer that is no success, as an error that says what to change. */
export function restErrorOf(answer: Answer, call: RestCall, now: number): GitLabError {
  return passingError(answer, call, now) ?? strangeError(answer, call) ?? refusal(answer, call);
}

/** Answers that somebody in front of GitLab may give too, in any form: they are judged by the status alone. */
function passingError(answer: Answer, call: RestCall, now: number): GitLabError | undefined {
  const waitMs = requestedWaitMs(answer.status, answer.headers, now);
  if (answer.status === 429) {
    return new GitLabError(
      "gitlab_rate_limited",
      `${call.doing}: too many API requests (429)${says(answer)}`,
      {
        hint: "it is asked again later; if it stays so, let webhook.poll ask less often or raise GitLab's limit",
        retryable: true,
        waitMs,
      },
    );
  }
  if (answer.status < 500 && answer.status !== 408 && answer.status !== 409) return undefined;
  const { message } = gitLabErrorOf(answer.status, undefined, call.doing);
  return new GitLabError("gitlab_unavailable", `${message}${says(answer)}`, { retryable: true, waitMs });
}

/** GitLab's API answers in JSON, and sends elsewhere only for what was renamed. */
function strangeError(answer: Answer, call: RestCall): GitLabError | undefined {
  const location = header(answer, "location");
  if (answer.status >= 300 && answer.status < 400) {
    return isRenamed(location, call) ? renamed(call) : gitLabErrorOf(answer.status, location, call.doing);
  }
  return jsonOf(answer) === undefined ? gitLabErrorOf(answer.status, undefined, call.doing) : undefined;
}

/** GitLab points from an old path to the same call by id; a proxy that wants https points to the same path. */
function isRenamed(location: string | undefined, call: RestCall): boolean {
  const path = URL.parse(location ?? "", "http://relative.invalid")?.pathname ?? "";
  const wanted = call.path.split("?")[0] ?? "";
  return /\/api\/v4\/(projects|groups)\/\d+(\/|$)/.test(path) && !path.endsWith(`/api/v4${wanted}`);
}

function renamed(call: RestCall): GitLabError {
  return new GitLabError("gitlab_not_found", `${call.doing}: it was renamed or moved in GitLab`, {
    hint: "write its new path, or its id, into the configuration",
  });
}

function refusal(answer: Answer, call: RestCall): GitLabError {
  switch (answer.status) {
    case 401:
      return new GitLabError(
        "gitlab_api_token",
        `${call.doing}: GitLab does not take the API token (401)${says(answer)}`,
        {
          hint: "it is wrong, revoked or expired: create an access token in GitLab, put it where webhook.apiToken is configured, and reload",
        },
      );
    case 403:
      return forbidden(answer, call);
    case 404:
      return new GitLabError(
        "gitlab_not_found",
        `${call.doing}: GitLab does not find it (404)${says(answer)}`,
        {
          hint: call.missing ?? "it was deleted, or the API token's user may not see it",
        },
      );
    default:
      return refused(answer, call);
  }
}

function forbidden(answer: Answer, { doing, scope, role }: RestCall): GitLabError {
  const json = jsonOf(answer) as { error?: unknown } | null;
  if (json?.error === "insufficient_scope") {
    const lacks = scope === "api" ? "the scope api" : `the scope ${scope} (api includes it)`;
    return new GitLabError("gitlab_forbidden", `${doing}: the API token lacks ${lacks}${says(answer)}`, {
      hint: `create an access token that has the scope ${scope} as well, and put it where webhook.apiToken is configured`,
    });
  }
  return new GitLabError("gitlab_forbidden", `${doing}: GitLab does not allow it (403)${says(answer)}`, {
    hint: role === undefined ? "give the API token's user a higher role" : `the API token needs ${role}`,
  });
}

function refused(answer: Answer, call: RestCall): GitLabError {
  const message = `${call.doing}: GitLab refuses it (${answer.status})${says(answer)}`;
  const hint = call.advise?.(messageOf(answer));
  return new GitLabError("gitlab_refused", message, hint === undefined ? {} : { hint });
}

function says(answer: Answer): string {
  const words = messageOf(answer);
  return words === "" ? "" : `; it says: ${words}`;
}
