import { describeSystemError } from "./system-errors.ts";

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

/** What the operator can do about an error, if it says so. */
export function hintOf(error: unknown): string | undefined {
  return error instanceof FireRunnerError ? error.hint : undefined;
}

/** What went wrong and what to do about it, on one line. */
export function describeWithHint(error: unknown): string {
  const hint = hintOf(error);
  return hint === undefined ? describeError(error) : `${describeError(error)}; ${hint}`;
}

/** What Node advises to those who start it themselves. */
const nodesAdvice = /; if the root CA is installed locally, .*$/;

/** The message of anything thrown, with those of its causes that say more, on one line. For logs and for people. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const message = error.message.replace(nodesAdvice, "");
  const own = describeSystemError(error) || message || (error as NodeJS.ErrnoException).code || error.name;
  if (error.cause === undefined) return own;
  const behind = describeError(error.cause);
  return isSaid(behind, error.cause, own) ? own : `${own}: ${behind}`;
}

/** True when `own` says already what its cause comes to: in its own words, at the end, or by its code in brackets. */
function isSaid(behind: string, cause: unknown, own: string): boolean {
  const last = behind.slice(behind.lastIndexOf(": ") + 1).trim();
  return own.includes(behind) || own.endsWith(last) || own.includes(`(${systemCode(cause)})`);
}

/** As `describeError`; but what says itself what to do about it needs none of the foreign words behind it. */
export function explainError(error: unknown): string {
  return error instanceof FireRunnerError && error.hint !== undefined ? error.message : describeError(error);
}

/** The first error of a class among an error and its causes: HTTP clients wrap what their connections and look-ups fail with. */
export function causeIn<Kind extends Error>(
  error: unknown,
  kind: abstract new (...given: never[]) => Kind,
): Kind | undefined {
  for (let at = error; at instanceof Error; at = at.cause) if (at instanceof kind) return at;
  return undefined;
}

/** The errno-style code (`ENOENT`, `ECONNREFUSED`, …) of a system error, or undefined. */
export function systemCode(error: unknown): string | undefined {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === "string" ? code : undefined;
}

/** The first code in a chain of causes: TLS problems may come wrapped. The HTTP parser does not always give its own. */
export function codeIn(error: unknown): string {
  for (let at = error; at instanceof Error; at = at.cause) {
    const code = at.name === "HTTPParserError" ? "HPE_INVALID" : systemCode(at);
    if (code !== undefined) return code;
  }
  return "";
}
