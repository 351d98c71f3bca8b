/** The errors of the command line itself, and the exit code that an error of any module gives a command. */

import { FireRunnerError } from "../base/errors.ts";

type CliErrorCode =
  /** The command line has a word, option or value that is not known. */
  | "cli_usage"
  /** The command needs a running FireRunner, and none answers on the control socket. */
  | "cli_not_running"
  /** The control socket belongs to another user. */
  | "cli_not_allowed"
  /** The daemon answered with something this command line does not understand. */
  | "cli_strange_answer"
  /** A webhook could not be delivered: nothing answers at the address, or its certificate is not trusted. */
  | "cli_door"
  /** The file of the signing key cannot be written. */
  | "cli_key_file"
  /** What `init` was told does not work with this GitLab, or on this computer. */
  | "cli_setup"
  /** `init` was left before its end. */
  | "cli_canceled"
  /** A file that `init` makes cannot be written. */
  | "cli_init_file";

export class CliError extends FireRunnerError {
  constructor(code: CliErrorCode, message: string, options: ErrorOptions & { hint?: string } = {}) {
    super(code, message, options);
  }
}

/** The daemon refused a request: its own code, message and hint. */
export class DaemonError extends FireRunnerError {}

/** No FireRunner runs with this configuration: what can be done without one is done, the rest has to wait. */
export function isNotRunning(error: unknown): error is CliError {
  return error instanceof CliError && error.code === "cli_not_running";
}

/** FireRunner runs, and has not answered in the time that it was given. */
export class NoAnswer extends Error {}

/** Nothing is to be had of FireRunner now; in a moment there may be. */
export function isAway(error: unknown): error is Error {
  return isNotRunning(error) || error instanceof NoAnswer;
}

/** Listed for people in docs/cli.md. */
export const exitCodes = { ok: 0, failed: 1, usage: 2, notRunning: 3, notFound: 4 } as const;

const byCode: Readonly<Record<string, number>> = {
  cli_usage: exitCodes.usage,
  config_invalid: exitCodes.usage,
  config_unreadable: exitCodes.usage,
  bad_request: exitCodes.usage,
  registry_bad_name: exitCodes.usage,
  container_bad_name: exitCodes.usage,
  cli_not_running: exitCodes.notRunning,
  not_found: exitCodes.notFound,
  image_missing: exitCodes.notFound,
  container_not_found: exitCodes.notFound,
  container_not_here: exitCodes.notFound,
};

export function exitCodeOf(error: unknown): number {
  return (error instanceof FireRunnerError ? byCode[error.code] : undefined) ?? exitCodes.failed;
}
