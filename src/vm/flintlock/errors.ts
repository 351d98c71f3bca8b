import { ConnectError } from "@connectrpc/connect";
import { VmError } from "../errors.ts";
import { daemonFailures } from "./daemon-failures.ts";
import { callFailure, type Failure, type FailureRow, type HostFacts } from "./failure.ts";
import { transportFailures } from "./transport-failures.ts";

/** Of words that nobody knew beforehand; secrets are taken out of the whole message. */
const MOST_FOREIGN_CHARS = 300;

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
export interface CallContext {
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

/** What an error of connect, Node or flintlockd means. */
export function failureOf(error: unknown, facts: HostFacts): Failure {
  const chain = errorChain(error);
  const text = chain.map(({ message }) => message).join(": ");
  const systems = chain.flatMap((each) =>
    "code" in each && typeof each.code === "string" ? [each.code] : [],
  );
  const grpc = chain.find((each) => each instanceof ConnectError)?.code;
  for (const row of [...transportFailuresFirst(systems), ...daemonFailures, ...transportFailures]) {
    const match = matches(row, systems, grpc, text);
    if (match) return typeof row.means === "function" ? row.means(facts, match) : row.means;
  }
  return callFailure(
    "vm_host_refused",
    `it answered with an error: ${text.split("\n")[0]?.slice(0, MOST_FOREIGN_CHARS)}`,
    "look at flintlockd's log on the host",
    true,
  );
}

/** Rows with a system's code are surer than any text, and those without come after flintlockd's own. */
function transportFailuresFirst(systems: readonly string[]): readonly FailureRow[] {
  return systems.length === 0 ? [] : transportFailures.filter(({ system }) => system !== undefined);
}

function matches(
  row: FailureRow,
  systems: readonly string[],
  grpc: number | undefined,
  text: string,
): RegExpExecArray | undefined {
  if (row.grpc !== undefined && row.grpc !== grpc) return undefined;
  const { system } = row;
  if (system && !systems.some((code) => system.test(code))) return undefined;
  return (row.text ?? /^/).exec(text) ?? undefined;
}

function errorChain(error: unknown): Error[] {
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
