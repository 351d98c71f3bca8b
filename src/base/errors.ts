import { systemWords } from "./system-words.ts";

/**
 * The root of every error this program throws on purpose. `message` says what we were doing and what went wrong in
 * words for the operator; `hint` says what to do about it; `cause` keeps the foreign error untouched.
 */
export class FireRunnerError extends Error {
  /** A closed, stable name such as `store_locked`, listed in docs/errors.md. */
  readonly code: string;
  /** What the operator can do about it, if we know. */
  readonly hint: string | undefined;
  /** True when the same call may succeed later without anyone changing anything. */
  readonly retryable: boolean;

  constructor(
    code: string,
    message: string,
    options: ErrorOptions & { hint?: string; retryable?: boolean } = {},
  ) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.name = new.target.name;
    this.code = code;
    this.hint = options.hint;
    this.retryable = options.retryable ?? false;
  }
}

/** The message of anything thrown, with its causes, on one line. For logs and for people. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const own = systemWords(error) || error.message || (error as NodeJS.ErrnoException).code || error.name;
  return error.cause === undefined ? own : `${own}: ${describeError(error.cause)}`;
}

/** As `describeError`; but what says itself what to do about it needs none of the foreign words behind it. */
export function explainError(error: unknown): string {
  return error instanceof FireRunnerError && error.hint !== undefined ? error.message : describeError(error);
}

/** The errno-style code (`ENOENT`, `ECONNREFUSED`, …) of a system error, or undefined. */
export function systemCode(error: unknown): string | undefined {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === "string" ? code : undefined;
}
