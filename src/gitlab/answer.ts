/** GitLab's answers: read within a bound, and what they say in headers and body of waits, limits and refusals. */
import type { IncomingHttpHeaders } from "node:http";
import type { Dispatcher } from "undici";
import { readBounded, TooLongError } from "../base/read-bounded.ts";
import { refusedCertificate } from "./errors.ts";
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
  const value = answer.headers[name];
  return Array.isArray(value) ? value[0] : value;
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
  const waits = [afterMs(headers["retry-after"], now)];
  if (status === 429) {
    waits.push(untilDateMs(text(headers["ratelimit-resettime"]), now));
    waits.push(untilEpochSecondsMs(text(headers["ratelimit-reset"]), now));
  }
  return Math.min(LONGEST_WAIT_MS, Math.max(0, ...waits));
}

function afterMs(value: string | undefined, now: number): number {
  if (value !== undefined && /^\s*\d+\s*$/.test(value)) return Number(value) * 1_000;
  return untilDateMs(value, now);
}

function untilDateMs(value: string | undefined, now: number): number {
  const at = Date.parse(value ?? "");
  return Number.isNaN(at) ? 0 : at - now;
}

function untilEpochSecondsMs(value: string | undefined, now: number): number {
  return value !== undefined && /^\d+$/.test(value) ? Number(value) * 1_000 - now : 0;
}

function text(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
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
  const text = Array.isArray(value) ? value[0] : value;
  return text !== undefined && /^\d{1,12}$/.test(text) ? Number(text) : undefined;
}
