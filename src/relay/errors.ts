import { FireRunnerError } from "../base/errors.ts";

export type RelayErrorCode =
  /** A machine's socket has a longer path than the operating system takes. */
  | "relay_socket_path"
  /** The socket could not be made: rights, disk, or something else lies in its place. */
  | "relay_socket"
  /** A machine is on another computer, and the relay listens nowhere on the network. */
  | "relay_no_network"
  /** An address of relay.listen cannot be taken. */
  | "relay_listen"
  /** The relay's certificate or its authority cannot be made, read or used. */
  | "relay_certificate"
  /** A machine asked for a link after it had been started or given up. */
  | "relay_no_link";

/** What opening the relay, for one machine or for all, can fail with. */
export class RelayError extends FireRunnerError {
  constructor(code: RelayErrorCode, message: string, options: ErrorOptions & { hint?: string } = {}) {
    super(code, message, options);
  }
}

/**
 * Ends a guest's request with a status and a sentence. `rule` marks a broken rule, which is recorded; without it the answer
 * is ordinary (nothing there, try later).
 */
export class Refusal extends FireRunnerError {
  readonly status: number;
  readonly rule: string | undefined;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    message: string,
    options: { rule?: string; headers?: Readonly<Record<string, string>>; cause?: unknown } = {},
  ) {
    super("relay_refusal", message, "cause" in options ? { cause: options.cause } : {});
    this.status = status;
    this.rule = options.rule;
    this.headers = options.headers ?? {};
  }
}
