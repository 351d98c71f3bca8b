import type { Code } from "@connectrpc/connect";
import type { VmErrorCode } from "../errors.ts";

/** What is configured for a host: the same failure has other causes with and without a certificate or a token of ours. */
export interface HostFacts {
  readonly tls: boolean;
  readonly certificate: boolean;
  readonly token: boolean;
}

/** What an error of a call means. */
export interface Failure {
  readonly code: VmErrorCode;
  /** Goes on after “the host metal-1 (…), listing its machines:”. */
  readonly problem: string;
  readonly hint: string;
  /** The host itself, so that the next call would fail in the same way; or this call alone. */
  readonly about: "host" | "call";
  /** Whether another try, perhaps on another host, may work. */
  readonly retryable: boolean;
}

/** One kind of error by how it shows; all that is given has to match. */
export interface FailureRow {
  /** OpenSSL's and Node's code, such as `ECONNREFUSED`. */
  readonly system?: RegExp;
  readonly grpc?: Code;
  readonly text?: RegExp;
  readonly means: Failure | ((facts: HostFacts, match: RegExpExecArray) => Failure);
}

export function hostFailure(code: VmErrorCode, problem: string, hint: string): Failure {
  return { code, problem, hint, about: "host", retryable: true };
}

export function callFailure(code: VmErrorCode, problem: string, hint: string, retryable: boolean): Failure {
  return { code, problem, hint, about: "call", retryable };
}
