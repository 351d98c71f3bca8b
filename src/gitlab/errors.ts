import { FireRunnerError } from "../base/errors.ts";

export type GitLabErrorCode =
  /** GitLab does not know the token, or the runner was deleted. */
  | "gitlab_wrong_token"
  /** Something answered, but it is not GitLab's API. */
  | "gitlab_wrong_url"
  /** The server's certificate is not trusted. */
  | "gitlab_certificate"
  /** No connection, or none in time. */
  | "gitlab_unreachable"
  /** GitLab answers 5xx, or says that it is in maintenance. */
  | "gitlab_unavailable";

/** What talking to GitLab can fail with. `retryable` unless the configuration has to change. */
export class GitLabError extends FireRunnerError {
  constructor(
    code: GitLabErrorCode,
    message: string,
    options: ErrorOptions & { hint?: string; retryable?: boolean } = {},
  ) {
    super(code, message, options);
  }
}
