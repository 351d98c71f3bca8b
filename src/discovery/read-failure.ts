import { GitLabError } from "../gitlab/errors.ts";

/** What a failed request to GitLab's API says about the next ones. */
export interface ReadFailure {
  /** The project is gone or hidden: others can be read. */
  readonly isOfProject: boolean;
  /** It is not there (or no longer visible to this token), rather than forbidden. */
  readonly isGone: boolean;
  /** GitLab asks everybody to wait. */
  readonly isRateLimit: boolean;
  /** It does not pass by itself: the token, a role, the address, the certificate. */
  readonly isLasting: boolean;
  /** What GitLab asks to wait; 0 for nothing. */
  readonly waitMs: number;
}

const aboutProject: readonly string[] = ["gitlab_not_found", "gitlab_forbidden", "gitlab_refused"];

export function readFailure(error: unknown): ReadFailure {
  const known = error instanceof GitLabError ? error : undefined;
  const isAboutProject = known !== undefined && aboutProject.includes(known.code);
  return {
    isOfProject,
    isGone: known?.code === "gitlab_not_found",
    isRateLimit: known?.code === "gitlab_rate_limited",
    isLasting: known !== undefined && !known.retryable,
    waitMs: known?.waitMs ?? 0,
  };
}
