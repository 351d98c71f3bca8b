import { causeIn, codeIn, describeError, FireRunnerError } from "../errors.ts";
import { certificateCode, unreachableProblems } from "../system-errors.ts";
import type { ProxyServer } from "./routes.ts";

type ProxyErrorCode =
  /** The company's proxy itself cannot be reached, or does not answer in time. */
  | "proxy_unreachable"
  /** The company's proxy asks for a user and password, or does not take those given (407). */
  | "proxy_authentication"
  /** The company's proxy answers, and does not lead to the target: its rules forbid it, or it cannot reach it. */
  | "proxy_refused"
  /** The certificate of the company's proxy is not trusted. */
  | "proxy_certificate";

/** What the way through a company's proxy fails with: always the proxy, never the server behind it. */
export class ProxyError extends FireRunnerError {
  /** What the proxy answered; undefined when it did not. */
  readonly status: number | undefined;

  constructor(
    code: ProxyErrorCode,
    message: string,
    options: ErrorOptions & { hint?: string; retryable?: boolean; status?: number } = {},
  ) {
    super(code, message, options);
    this.status = options.status;
  }
}

export function proxyErrorIn(error: unknown): ProxyError | undefined {
  return causeIn(error, ProxyError);
}

/** The proxy was asked to lead to `target` and answered with something else than 2xx. */
export function proxyAnswered(proxy: ProxyServer, target: string, status: number): ProxyError {
  const named = `the proxy ${proxy.origin} (${proxy.namedBy})`;
  if (status === 407) {
    return proxy.username === undefined
      ? new ProxyError("proxy_authentication", `${named} asks for a user and a password (407)`, {
          status,
          hint: "set proxy.url, proxy.username and proxy.passwordFile",
        })
      : new ProxyError("proxy_authentication", `${named} does not take the user and password given (407)`, {
          status,
          hint:
            proxy.namedBy === "proxy.url"
              ? "correct proxy.username and proxy.passwordFile"
              : `correct ${proxy.namedBy}`,
        });
  }
  const isForbidden = status >= 400 && status < 500;
  return new ProxyError("proxy_refused", `${named} answers ${status} when asked to lead to ${target}`, {
    status,
    retryable: !isForbidden,
    hint: isForbidden
      ? `let the proxy's rules allow this computer to reach ${target}, or name its host in proxy.noProxy when it needs no proxy`
      : `the proxy cannot reach ${target}: if it is in this network, name its host in proxy.noProxy`,
  });
}

/** No answer of the proxy came at all. */
export function proxyFailed(proxy: ProxyServer, cause: unknown): ProxyError {
  if (cause instanceof ProxyError) return cause;
  const named = `the proxy ${proxy.origin} (${proxy.namedBy})`;
  const code = codeIn(cause);
  if (certificateCode.test(code)) {
    return new ProxyError("proxy_certificate", `the certificate of ${named} is not trusted (${code})`, {
      cause,
      hint: "put the certificate of its authority into proxy.caFile",
    });
  }
  const timedOut = cause instanceof Error && cause.name === "TimeoutError";
  const why = timedOut ? "no answer in time" : (unreachableProblems[code] ?? describeError(cause));
  return new ProxyError("proxy_unreachable", `${named} cannot be reached: ${why}`, {
    cause,
    retryable: true,
    hint: `check ${proxy.namedBy}, and whether the proxy runs; “proxy.url: none” does without`,
  });
}
