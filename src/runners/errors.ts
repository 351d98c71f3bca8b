import { FireRunnerError } from "../base/errors.ts";

export type RunnerErrorCode =
  /** No runner of this installation has that key or that id in GitLab. */
  | "runner_unknown"
  /** No machine can be had for these tags, so there is nothing a runner with them could do. */
  | "runner_tags"
  /** As many runners exist as the configuration allows, and all are in use. */
  | "runner_limit"
  /** Runners are made for single jobs, so none can be made ahead. */
  | "runner_per_job";

/** Why a runner cannot be made or taken out of use. What GitLab says against it is a GitLabError. */
export class RunnerError extends FireRunnerError {
  constructor(code: RunnerErrorCode, message: string, options: ErrorOptions & { hint?: string } = {}) {
    super(code, message, options);
  }
}
