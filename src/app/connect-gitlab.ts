import type { Log } from "../base/log.ts";
import type { Config } from "../config/load.ts";
import { createGitLabHttp, type GitLabHttp } from "../gitlab/http.ts";
import { readGitLabTrust } from "../gitlab/trust.ts";

/**
 * GitLab's HTTP as configured: its authorities, the certificate shown to it, and the proxy that leads there. Throws GitLabError when a file
 * cannot be used.
 */
export async function connectGitLab(
  { gitlab, proxy }: Pick<Config, "gitlab" | "proxy">,
  log?: Log,
): Promise<GitLabHttp> {
  const { url, ...files } = gitlab;
  const trust = await readGitLabTrust({ files, ca: proxy.ca, log });
  return createGitLabHttp({ url, trust, ways: proxy });
}
