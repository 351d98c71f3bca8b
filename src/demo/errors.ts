import { FireRunnerError } from "../base/errors.ts";

type DemoErrorCode =
  /** `--repo` is no Git repository with a commit and a `.gitlab-ci.yml`. */
  | "demo_repository"
  /** A part of FireRunner that the demo started ended with an error. */
  | "demo_program_failed"
  /** Something did not happen in the time it should take. */
  | "demo_timeout";

/** The demo cannot go on. The results of jobs are no errors: they are in the summary. */
export class DemoError extends FireRunnerError {
  constructor(code: DemoErrorCode, message: string, options: ErrorOptions & { hint?: string } = {}) {
    super(code, message, options);
  }
}
