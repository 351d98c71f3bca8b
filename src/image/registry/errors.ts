import { FireRunnerError } from "../../base/errors.ts";

export type RegistryErrorCode =
  /** What was given is not the name of an image in a registry. */
  | "registry_bad_name"
  /** The registry cannot be reached, or breaks off. */
  | "registry_unreachable"
  /** The registry's certificate is not trusted, or one side speaks TLS and the other does not. */
  | "registry_tls"
  /** The registry does not know us, or does not let us write there. */
  | "registry_unauthorized"
  /** The file or the program that holds the registry's credentials cannot be used. */
  | "registry_credentials"
  /** The registry knows no repository of that name and does not make one. */
  | "registry_name_unknown"
  /** The registry's disk is full. */
  | "registry_no_space"
  /** The registry is overloaded, or has an internal problem. */
  | "registry_unavailable"
  /** The registry gave an answer that no registry should, or does not do what is needed. */
  | "registry_refused";

export class RegistryError extends FireRunnerError {
  declare readonly code: RegistryErrorCode;
  /** How long the registry wants to be left alone. */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: RegistryErrorCode,
    message: string,
    options: ErrorOptions & { hint?: string; retryable?: boolean; retryAfterMs?: number | undefined } = {},
  ) {
    super(code, message, options);
    this.retryAfterMs = options.retryAfterMs;
  }
}
