import { z } from "zod";
import type { Clock } from "../base/clock.ts";
import { startDeadline } from "../base/deadline.ts";
import type { Secret } from "../base/secret.ts";
import { MIB_BYTES } from "../base/units.ts";
import {
  type Answer,
  header,
  jsonOf,
  type RestCall,
  rateBudgetOf,
  readAnswer,
  restErrorOf,
} from "./answer.ts";
import { GitLabError, gitLabErrorFrom } from "./errors.ts";
import type { GitLabHttp } from "./http.ts";
import type { RateBudget } from "./rest-api.ts";

/** A hundred jobs with long commit messages stay far below. */
const MAX_ANSWER_BYTES = 16 * MIB_BYTES;
/** For the whole answer: a server that sends a byte now and then must not hold a caller for ever. */
const ANSWER_TIMEOUT_MS = 60_000;

export interface RestOptions {
  readonly http: GitLabHttp;
  readonly clock: Clock;
  /** Of this program, for the User-Agent. */
  readonly version: string;
  /** The access token; asked for with each request, since it may be replaced while we run. */
  readonly token: () => Secret;
  /** Longest time for one whole answer. Default 60 s. */
  readonly answerTimeoutMs?: number;
}

/** Sends each call once: when to try again is the caller's to say. Throws GitLabError, or the signal's reason. */
export interface RestClient {
  budget(): RateBudget | undefined;
  /** A whole answer with a status of 2xx. */
  send(call: RestCall): Promise<Answer>;
  /** As `send`, with the body as what `schema` says. */
  read<T>(call: RestCall, schema: z.ZodType<T>): Promise<T>;
  /** Every entry of a list, from all its pages. */
  list<T>(call: RestCall, entry: z.ZodType<T>): Promise<T[]>;
}

export function createRestClient({ http, clock, version, token, answerTimeoutMs }: RestOptions): RestClient {
  const timeoutMs = answerTimeoutMs ?? ANSWER_TIMEOUT_MS;
  let budget: RateBudget | undefined;

  async function send(call: RestCall): Promise<Answer> {
    const privateToken = headerValue(token(), call);
    const headers = {
      accept: "application/json",
      "user-agent": `firerunner/${version}`,
      "private-token": privateToken,
      ...(call.body ? { "content-type": "application/json" } : {}),
    };
    const answer = await exchange(call, headers);
    budget = rateBudgetOf(answer.headers) ?? budget;
    if (answer.status < 200 || answer.status > 299) {
      const text = answer.text.replaceAll(privateToken, "[secret]");
      throw restErrorOf({ ...answer, text }, call, clock.now());
    }
    if (answer.cut !== undefined) throw cutError(answer, call);
    return answer;
  }

  async function exchange(call: RestCall, headers: Record<string, string>): Promise<Answer> {
    const deadline = startDeadline(clock, timeoutMs, call.signal);
    const { signal } = deadline;
    try {
      const { method, path, body } = call;
      const json = body === undefined ? {} : { body: JSON.stringify(body) };
      const response = await http.request({ method, path: `/api/v4${path}`, headers, signal, ...json });
      const answer = await readAnswer(response, MAX_ANSWER_BYTES);
      if (answer.cut !== undefined) signal.throwIfAborted();
      return answer;
    } catch (error) {
      call.signal?.throwIfAborted();
      if (deadline.isOver()) throw tooSlow(call, timeoutMs, error);
      throw gitLabErrorFrom(error, call.doing);
    } finally {
      deadline.clear();
    }
  }

  async function read<T>(call: RestCall, schema: z.ZodType<T>): Promise<T> {
    return parsed(await send(call), call, schema);
  }

  async function list<T>(call: RestCall, entry: z.ZodType<T>): Promise<T[]> {
    const page = z.array(entry);
    return await readPages(call, http, async (pageCall) => {
      const answer = await send(pageCall);
      return { answer, items: parsed(answer, pageCall, page) };
    });
  }

  return { budget: () => budget, send, read, list };
}

function parsed<T>(answer: Answer, { doing }: RestCall, schema: z.ZodType<T>): T {
  const result = schema.safeParse(jsonOf(answer));
  if (result.success) return result.data;
  const where = result.error.issues[0]?.path.join(".") || "the whole";
  throw new GitLabError(
    "gitlab_wrong_url",
    `${doing}: the answer (${answer.status}) is not what GitLab's API gives (${where})`,
    { hint: "check gitlab.url, and what stands between this computer and GitLab" },
  );
}

/** A token file with a second line or a word processor's quotes would otherwise fail as a strange HTTP problem. */
function headerValue(token: Secret, { doing }: RestCall): string {
  const text = token.reveal();
  if (/^[\x21-\x7e]+$/.test(text)) return text;
  throw new GitLabError("gitlab_api_token", `${doing}: the API token holds characters that no token has`, {
    hint: "put the token alone, on one line, where webhook.apiToken is configured",
  });
}

function cutError({ cut }: Answer, { doing }: RestCall): GitLabError {
  // Only a break of the connection has a code; an answer that is too long was cut by us.
  if (cut instanceof Error && "code" in cut) return gitLabErrorFrom(cut, doing);
  return new GitLabError("gitlab_wrong_url", `${doing}: the answer is longer than any of GitLab's API`, {
    cause: cut,
    hint: "check gitlab.url, and what stands between this computer and GitLab",
  });
}

function tooSlow({ doing }: RestCall, timeoutMs: number, cause: unknown): GitLabError {
  const seconds = timeoutMs / 1_000;
  return new GitLabError("gitlab_unreachable", `${doing}: no whole answer within ${seconds} s`, {
    cause,
    hint: "check the network of this computer and the load of GitLab",
    retryable: true,
  });
}

/** 20,000 entries: more than any list we ask for, and the end of one that would have none. */
const MAX_PAGES = 200;

/** Adds to a path the most entries that GitLab gives on a page. */
export function byPages(path: string): string {
  return `${path}${path.includes("?") ? "&" : "?"}per_page=100`;
}

/**
 * Reads a list page by page, following `Link: <…>; rel="next"`. The token goes along, so a link is followed only to the same
 * GitLab's API. An empty page ends the list wherever it points. Throws GitLabError `gitlab_wrong_url` for a link that leads
 * elsewhere and for a list without an end.
 */
async function readPages<T>(
  call: RestCall,
  http: Pick<GitLabHttp, "origin" | "basePath">,
  readPage: (call: RestCall) => Promise<{ readonly answer: Answer; readonly items: readonly T[] }>,
): Promise<T[]> {
  const all: T[] = [];
  const seen = new Set<string>();
  for (let path: string | undefined = call.path; path !== undefined; ) {
    if (seen.has(path)) throw endless(call, "it leads back to a page that was read already");
    if (seen.size === MAX_PAGES) throw endless(call, `it goes on after ${MAX_PAGES} pages`);
    seen.add(path);
    const { answer, items } = await readPage({ ...call, path });
    all.push(...items);
    path = items.length === 0 ? undefined : nextPath(answer, call, http);
  }
  return all;
}

/** The next page's path below `/api/v4`; undefined on the last page. */
function nextPath(
  answer: Answer,
  call: RestCall,
  http: Pick<GitLabHttp, "origin" | "basePath">,
): string | undefined {
  const link = nextLink(header(answer, "link") ?? "");
  if (link === undefined) return undefined;
  const api = `${http.basePath}/api/v4`;
  const url = URL.parse(link, http.origin);
  if (url === null || url.origin !== http.origin || !url.pathname.startsWith(`${api}/`)) {
    const where = url === null ? "an unreadable address" : `${url.origin}${url.pathname}`;
    throw new GitLabError(
      "gitlab_wrong_url",
      `${call.doing}: the list goes on at ${where}, which is elsewhere`,
      {
        hint: `set gitlab.url to GitLab's own address (its external_url); the API token is sent to ${http.origin} only`,
      },
    );
  }
  return url.pathname.slice(api.length) + url.search;
}

/** RFC 8288, as far as GitLab uses it. */
function nextLink(links: string): string | undefined {
  for (const [, url, parameters = ""] of links.matchAll(/<([^<>]*)>([^<]*)/g)) {
    const rel = /;\s*rel\s*=\s*"?([^";,]*)/i.exec(parameters)?.[1] ?? "";
    if (rel.trim().split(/\s+/).includes("next")) return url;
  }
  return undefined;
}

function endless({ doing }: RestCall, why: string): GitLabError {
  return new GitLabError("gitlab_wrong_url", `${doing}: the list has no end, ${why}`, {
    hint: "look at what stands between this computer and GitLab; its answers' Link headers are wrong",
  });
}
