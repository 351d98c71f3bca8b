import { FireRunnerError } from "../base/errors.ts";

export type CliErrorCode =
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
