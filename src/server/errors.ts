import { FireRunnerError } from "../base/errors.ts";

export type HttpErrorCode =
  /** A running FireRunner already answers on the control socket. */
  | "control_taken"
  /** The control socket cannot be made: its path is too long, or its directory cannot be written. */
  | "control_socket"
  /** The public server cannot listen on an address of http.listen: it is taken, not allowed, or not this computer's. */
  | "door_listen"
  /** The certificate or the key of the public server is missing, unreadable, damaged, or they do not belong together. */
  | "door_certificate"
  /** The metrics cannot be served at an address of metrics.listen: it is taken, not allowed, or not this computer's. */
  | "metrics_listen"
  /** The certificate or the key of metrics.tls is missing, unreadable, damaged, or they do not belong together. */
  | "metrics_certificate"
  /** The API cannot be served at an address of api.listen: it is taken, not allowed, or not this computer's. */
  | "api_listen"
  /** The certificate or the key of api.tls is missing, unreadable, damaged, or they do not belong together. */
  | "api_certificate"
  /** A request names something that is not there. */
  | "not_found"
  /** A request is not one of the control interface, or its values are not acceptable. */
  | "bad_request"
  /** What is asked for needs something that the configuration does not have. */
  | "not_configured"
  /** The path is right, and not with this method of HTTP. */
  | "method_not_allowed"
  /** A request to the API has no token, or one that is not known. */
  | "unauthorized"
  /** The role of the API's token does not allow this. */
  | "forbidden"
  /** What was asked for does not go with how things are. */
  | "conflict"
  /** Too much at one time. */
  | "too_many";

/** What the servers fail with, on their own account. */
export class HttpError extends FireRunnerError {
  constructor(code: HttpErrorCode, message: string, options: ErrorOptions & { hint?: string } = {}) {
    super(code, message, options);
  }
}
