import { FireRunnerError } from "../base/errors.ts";

type ConfigErrorCode =
  /** There is no configuration file where one was named or expected, or it cannot be read. */
  | "config_unreadable"
  /** The configuration was read and cannot be used; every problem is listed with its place. */
  | "config_invalid";

/** One thing that is wrong, where it stands, and what to do where that is not obvious. */
export interface ConfigProblem {
  /** `firerunner.yaml:12:5`, the name of an environment variable, or the file as a whole. */
  readonly where: string;
  readonly message: string;
}

/** The configuration cannot be used. `problems` lists everything that was found in one go. */
export class ConfigError extends FireRunnerError {
  readonly problems: readonly ConfigProblem[];

  constructor(
    code: ConfigErrorCode,
    message: string,
    options: ErrorOptions & { hint?: string; problems?: readonly ConfigProblem[] } = {},
  ) {
    super(code, message, options);
    this.problems = options.problems ?? [];
  }
}
