import { FireRunnerError } from "../base/errors.ts";

export type HttpErrorCode =
  /** A running FireRunner already answers on the control socket. */
  | "control_taken"
  /** The control socket cannot be made: its path is too long, or its directory cannot be written. */
  | "control_socket"
  /** A request names something that is not there. */
  | "not_found"
  /** A request is not one of the control interface, or its values are not acceptable. */
  | "bad_request";

/** What the control interface fails with, on its own account. */
export class HttpError extends FireRunnerError {
  constructor(code: HttpErrorCode, message: string, options: ErrorOptions & { hint?: string } = {}) {
    super(code, message, options);
  }
}
