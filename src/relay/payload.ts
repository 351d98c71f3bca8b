import { withGitRewrites } from "./git-rewrites.ts";
import { withRelayExempt } from "./job-proxies.ts";

/**
 * The job as the guest gets it: GitLab's own JSON, with the clone URL leading through the relay, as does for git whatever else lies on
 * GitLab, the relay exempt from the job's own proxies, and a few attempts added, so that a clone cut by a restart of this program is tried
 * again. Its caches are left out: the machine that would keep them is gone after the job, and the runner would pack them for nothing.
 * Everything else is passed on as it came.
 */

/** Sections of a job that the runner may try again by itself; a job that sets one of these keeps its own value. */
const attempts = ["GET_SOURCES_ATTEMPTS", "ARTIFACT_DOWNLOAD_ATTEMPTS", "RESTORE_CACHE_ATTEMPTS"] as const;

export interface PayloadRewrite {
  /** GitLab's address as this program knows it (`https://gitlab.example.com`), without its path. */
  readonly origin: string;
  /** The path under which GitLab lives, or empty. */
  readonly basePath: string;
  /** `Host` of the guest's request: by that name it reaches the relay. */
  readonly relayHost: string;
  /** PEM of the authorities that GitLab's certificate is from, where they are private. */
  readonly authorities?: string | undefined;
}

/** `raw` is a job payload that has been parsed before, so it is an object with an `id` and a `token`. */
export function rewritePayload(raw: string, rewrite: PayloadRewrite): string {
  const { origin, basePath, relayHost, authorities } = rewrite;
  const payload = JSON.parse(raw) as Record<string, unknown>;
  const token = String(payload["token"]);
  const git = payload["git_info"];
  const bases = [`${origin}${basePath}`];
  if (isObject(git) && typeof git["repo_url"] === "string") {
    // GitLab's own word for where it is: gitlab.url may be another way to it.
    const named = URL.parse(git["repo_url"])?.origin;
    if (named !== undefined && named !== "null") bases.push(`${named}${basePath}`);
    git["repo_url"] = cloneUrl(git["repo_url"], { basePath, relayHost }, token);
  }
  if (Array.isArray(payload["cache"])) payload["cache"] = [];
  const attempted = withAttempts(payload["variables"]);
  const variables = withAuthorities(withRelayExempt(attempted, relayHost), authorities);
  payload["variables"] = withGitRewrites(variables, { bases, relayHost, token });
  return JSON.stringify(payload);
}

type CloneWay = Pick<PayloadRewrite, "basePath" | "relayHost">;

function cloneUrl(repoUrl: string, { basePath, relayHost }: CloneWay, token: string): string {
  const original = URL.parse(repoUrl);
  if (original === null) return repoUrl;
  const path = pathBelow(basePath, original.pathname);
  return `http://gitlab-ci-token:${encodeURIComponent(token)}@${relayHost}${path}`;
}

/** `/gitlab/group/project.git` below the base `/gitlab` is `/group/project.git`. */
export function pathBelow(basePath: string, path: string): string {
  return path.startsWith(`${basePath}/`) ? path.slice(basePath.length) : path;
}

function withAttempts(variables: unknown): unknown[] {
  const given = Array.isArray(variables) ? variables : [];
  const keys = new Set(given.map((variable) => (isObject(variable) ? variable["key"] : undefined)));
  const added = attempts
    .filter((key) => !keys.has(key))
    .map((key) => ({ key, value: "3", public: true, masked: false }));
  return [...given, ...added];
}

/** As GitLab's runner tells of a server whose certificate it was given authorities for: a file's path, once it is in the job. */
function withAuthorities(variables: readonly unknown[], authorities: string | undefined): unknown[] {
  const key = "CI_SERVER_TLS_CA_FILE";
  const isGiven = variables.some((each) => isObject(each) && each["key"] === key);
  if (authorities === undefined || isGiven) return [...variables];
  return [...variables, { key, value: authorities, public: true, masked: false, file: true }];
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
