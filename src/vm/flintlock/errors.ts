/** A call to a host that failed: what it means (`Failure`, by the tables of failures.ts) and how that is said. */
import type { Code } from "@connectrpc/connect";
import { VmError, type VmErrorCode } from "../errors.ts";

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

/** A call to one host that failed, in words for the operator. Its cause has the foreign words. */
export class FlintlockError extends VmError {
  readonly failure: Failure;
  /** True when the call may have been carried out: nobody knows. */
  readonly mayHaveWorked: boolean;

  constructor(failure: Failure, message: string, options: ErrorOptions & { mayHaveWorked: boolean }) {
    super(failure.code, message, {
      cause: options.cause,
      hint: failure.hint,
      retryable: failure.retryable,
    });
    this.failure = failure;
    this.mayHaveWorked = options.mayHaveWorked;
  }

  /** The host itself, so that the next call would fail in the same way; or this call alone. */
  get about(): "host" | "call" {
    return this.failure.about;
  }
}

/** What was being done to whom when a call failed. */
interface CallContext {
  readonly host: string;
  readonly address: string;
  /** Such as `listing its machines`. */
  readonly doing: string;
  /** Texts that must not show up in any message. */
  readonly secrets: readonly string[];
  /** False when nothing had been sent yet. */
  readonly sent: boolean;
}

export function flintlockError(failure: Failure, context: CallContext, foreign: unknown): FlintlockError {
  const message = `the host ${context.host} (${context.address}), ${context.doing}: ${failure.problem}`;
  const mayHaveWorked = context.sent && failure.about === "host" && failure.code !== "vm_host_credentials";
  return new FlintlockError(failure, scrub(message, context.secrets), {
    cause: scrubbedError(foreign, context.secrets),
    mayHaveWorked,
  });
}

/** The error and its causes, outermost first. */
export function errorChain(error: unknown): Error[] {
  const chain: Error[] = [];
  for (let next = error; next instanceof Error && !chain.includes(next); next = next.cause) chain.push(next);
  return chain;
}

function scrub(text: string, secrets: readonly string[]): string {
  return secrets.reduce(
    (clean, secret) => (secret === "" ? clean : clean.replaceAll(secret, "[secret]")),
    text,
  );
}

/** The foreign error itself, or its words alone where they hold a secret or more than one line. */
function scrubbedError(error: unknown, secrets: readonly string[]): unknown {
  const words = errorChain(error).map(({ message }) => message);
  const said = words[0]?.split("\n")[0] ?? String(error);
  return new Error(scrub(said, secrets));
}
