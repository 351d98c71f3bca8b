import { type Answer, header } from "./answer.ts";
import { GitLabError } from "./errors.ts";
import type { GitLabHttp } from "./http.ts";
import type { RestCall } from "./rest-client.ts";

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
export async function readPages<T>(
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
