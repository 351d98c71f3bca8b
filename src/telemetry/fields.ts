/**
 * What stands in a line of the log, under names that do not change: `snake_case`, whoever wrote it, with `error.code` beside
 * `error.message`, and `duration_ms` for how long something took. What may not be written is taken out, wherever it stands.
 */
import { FireRunnerError } from "../base/errors.ts";
import { Secret } from "../base/secret.ts";

type Fields = Record<string, unknown>;

/** Names whose values are never written, without regard to case, hyphens and underscores. Secret objects hide themselves. */
export const hiddenNames = [
  ...["token", "jobToken", "runnerToken", "apiToken", "privateToken", "authorization", "Authorization"],
  ...["password", "secret", "payload", "cookie"],
] as const;
const hidden = new Set(hiddenNames.map(bare));
export const CENSOR = "[secret]";
/** GitLab's tokens by their prefixes. The beginnings by which people know a runner (`glrt-abcd`) are shorter. */
const tokens = /\bgl[a-z]{2,6}-[\w.-]{10,}/g;
/** What is deeper than that is left out: nobody would read it. */
const MOST_DEPTH = 8;

/** Where a field has another name than its own in snake case. */
const renamed: Readonly<Record<string, string>> = { tookMs: "duration_ms" };

/** The fields of a line as they are written: objects, lists, texts, numbers, truth values and null. */
export function namedFields(fields: object): Fields {
  const { err, error, ...others } = fields as Fields;
  const told = err ?? error;
  const plain = plainValue(others, 0) as Fields;
  return told === undefined ? plain : { ...plain, error: errorFields(told) };
}

/** A text without what looks like a token of GitLab's: a message of somebody else's may quote one. */
export function withoutTokens(text: string): string {
  return text.replace(tokens, CENSOR);
}

/** The name of what a line tells, from its message, which never varies: `report of a failed job not taken` is `report-of-a-failed-job-not-taken`. */
export function eventName(message: string): string {
  const [head = ""] = message.split(/[:;(]/, 1);
  return head
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
}

/** `code` where it has one, the message with those of its causes, and where a bug happened. */
function errorFields(error: unknown): Fields {
  if (!(error instanceof Error)) return { message: plainValue(error, 1) };
  const { code } = error as { code?: unknown };
  return {
    ...(typeof code === "string" || typeof code === "number" ? { code: String(code) } : {}),
    message: messageOf(error, 0),
    ...(error instanceof FireRunnerError ? {} : { type: error.name, stack: error.stack }),
  };
}

function messageOf({ cause, message }: Error, depth: number): string {
  const more = cause instanceof Error && depth < MOST_DEPTH ? messageOf(cause, depth + 1) : "";
  return more === "" || message.includes(more) ? message : `${message}: ${more}`;
}

function plainValue(value: unknown, depth: number): unknown {
  if (typeof value === "bigint") return Number(value);
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Secret) return CENSOR;
  if (value instanceof Error) return errorFields(value);
  if (value instanceof Date || value instanceof URL) return value.toJSON();
  if (depth >= MOST_DEPTH) return "…";
  const entries = entriesOf(value);
  if (entries === undefined)
    return [...(value as Iterable<unknown>)].map((each) => plainValue(each, depth + 1));
  return Object.fromEntries(
    entries.map(([name, each]) => [fieldName(name), isHidden(name) ? CENSOR : plainValue(each, depth + 1)]),
  );
}

/** Undefined for a list. */
function entriesOf(value: object): [string, unknown][] | undefined {
  if (Array.isArray(value) || value instanceof Set) return undefined;
  return value instanceof Map
    ? [...value].map(([name, each]) => [String(name), each])
    : Object.entries(value);
}

/** `jobId` is `job_id`; names with other characters, such as kinds that are counted, stay as they are. */
function fieldName(name: string): string {
  if (Object.hasOwn(renamed, name)) return renamed[name] ?? name;
  if (!/^[a-z][A-Za-z0-9]*$/.test(name)) return name;
  return name.replace(/[A-Z]+/g, (letters) => `_${letters.toLowerCase()}`);
}

function isHidden(name: string): boolean {
  return hidden.has(bare(name));
}

function bare(name: string): string {
  return name.toLowerCase().replace(/[_-]/g, "");
}
