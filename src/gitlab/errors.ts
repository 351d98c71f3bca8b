import { FireRunnerError } from "../base/errors.ts";

export type GitLabErrorCode =
  /** GitLab does not know the runner's token, or the runner was deleted. */
  | "gitlab_wrong_token"
  /** GitLab does not take the API token: it is unknown, revoked or expired. */
  | "gitlab_api_token"
  /** The API token lacks a scope, or its user a role. */
  | "gitlab_forbidden"
  /** GitLab has no such thing, or hides it from the API token's user. */
  | "gitlab_not_found"
  /** GitLab does not do what it was asked, and says why. */
  | "gitlab_refused"
  /** GitLab's limit for API requests has been reached. */
  | "gitlab_rate_limited"
  /** Something answered, but it is not GitLab's API. */
  | "gitlab_wrong_url"
  /** The server's certificate is not trusted. */
  | "gitlab_certificate"
  /** The file in gitlab.caFile cannot be read. */
  | "gitlab_ca_unreadable"
  /** GitLab asks for a client certificate, or does not take the one it was shown; or its files cannot be used. */
  | "gitlab_client_certificate"
  /** The way to GitLab leads through a company's proxy, and ends there. */
  | "gitlab_proxy"
  /** No connection, or none in time. */
  | "gitlab_unreachable"
  /** GitLab answers 5xx, or says that it is in maintenance. */
  | "gitlab_unavailable";

/** What talking to GitLab can fail with. `retryable` unless the configuration has to change. */
export class GitLabError extends FireRunnerError {
  /** How long GitLab asks to be left alone; 0 when it names no time. */
  readonly waitMs: number;

  constructor(
    code: GitLabErrorCode,
    message: string,
    options: ErrorOptions & { hint?: string; retryable?: boolean; waitMs?: number } = {},
  ) {
    super(code, message, options);
    this.waitMs = options.waitMs ?? 0;
  }
}
