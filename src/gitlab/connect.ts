import type { Log } from "../base/log.ts";
import type { ProxyWays } from "../base/proxy/ways.ts";
import type { GitLabConfig } from "./config.ts";
import { createGitLabHttp, type GitLabHttp } from "./http.ts";
import { readGitLabTrust } from "./trust.ts";

/**
 * GitLab's HTTP as configured: its authorities, the certificate shown to it, and the proxy that leads there. Throws GitLabError when a file
 * cannot be used.
 */
export async function connectGitLab(
  { gitlab, proxy }: { readonly gitlab: GitLabConfig; readonly proxy: ProxyWays },
  log?: Log,
): Promise<GitLabHttp> {
  const { url, ...files } = gitlab;
  const trust = await readGitLabTrust({ files, ca: proxy.ca, log });
  return createGitLabHttp({ url, trust, ways: proxy });
}
