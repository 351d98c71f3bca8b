/** What talking to GitLab can fail with, made of what the HTTP client threw or of an answer that is none of GitLab's. */
import { codeIn, FireRunnerError } from "../base/errors.ts";
import { type ProxyError, proxyErrorIn } from "../base/proxy/errors.ts";
import { certificateCode, unreachableProblems, wrongProtocolCode } from "../base/system-errors.ts";

type GitLabErrorCode =
  /** GitLab does not know the runner's token, or the runner was deleted. */
  | "gitlab_wrong_token"
  /** GitLab does not take the API token: it is unknown, revoked or expired. */
  | "gitlab_api_token"
  /** The API token lacks a scope, or its user a role. */
  | "gitlab_forbidden"
  /** GitLab has no such thing, or hides it from the API token's user. */
  | "gitlab_not_found"
  /** GitLab does not do what it was asked, and says why. */
  | "gitlab_refused"
  /** GitLab's limit for API requests has been reached. */
  | "gitlab_rate_limited"
  /** Something answered, but it is not GitLab's API. */
  | "gitlab_wrong_url"
  /** The server's certificate is not trusted. */
  | "gitlab_certificate"
  /** The file in gitlab.caFile cannot be read. */
  | "gitlab_ca_unreadable"
  /** GitLab asks for a client certificate, or does not take the one it was shown; or its files cannot be used. */
  | "gitlab_client_certificate"
  /** The way to GitLab leads through a company's proxy, and ends there. */
  | "gitlab_proxy"
  /** No connection, or none in time. */
  | "gitlab_unreachable"
  /** GitLab answers 5xx, or says that it is in maintenance. */
  | "gitlab_unavailable";

/** What talking to GitLab can fail with. `retryable` unless the configuration has to change. */
export class GitLabError extends FireRunnerError {
  /** How long GitLab asks to be left alone; 0 when it names no time. */
  readonly waitMs: number;

  constructor(
    code: GitLabErrorCode,
    message: string,
    options: ErrorOptions & { hint?: string; retryable?: boolean; waitMs?: number } = {},
  ) {
    super(code, message, options);
    this.waitMs = options.waitMs ?? 0;
  }
}

const certificateHints: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: "renew GitLab's certificate, and check this computer's clock",
  CERT_NOT_YET_VALID: "check this computer's clock",
  ERR_TLS_CERT_ALTNAME_INVALID: "use the host name that GitLab's certificate was made for in gitlab.url",
};
const untrustedHint = "put the certificate of GitLab's certificate authority into gitlab.caFile";

/** A failed exchange with GitLab, from whatever the HTTP client threw. `doing` is what we were doing, for the message. */
export function gitLabErrorFrom(cause: unknown, doing: string): GitLabError {
  if (cause instanceof GitLabError) return cause;
  const proxy = proxyErrorIn(cause);
  if (proxy !== undefined) return proxyInTheWay(proxy, doing);
  const code = codeIn(cause);
  const asked = clientCertificateError(code, doing, cause);
  if (asked !== undefined) return asked;
  if (certificateCode.test(code)) {
    return new GitLabError("gitlab_certificate", `${doing}: GitLab's certificate is not trusted (${code})`, {
      cause,
      hint: certificateHints[code] ?? untrustedHint,
    });
  }
  if (wrongProtocolCode.test(code)) {
    return new GitLabError(
      "gitlab_wrong_url",
      `${doing}: the server does not speak the protocol of the URL`,
      {
        cause,
        hint: "check the scheme (http or https) and the port of gitlab.url",
      },
    );
  }
  const problem = unreachableProblems[code] ?? "the exchange failed";
  return new GitLabError("gitlab_unreachable", `${doing}: GitLab cannot be reached, ${problem}`, {
    cause,
    hint: "check gitlab.url, the name resolution and the network of this computer",
    retryable: true,
  });
}

/** Rules, passwords and proxies are put right without us: it is tried again. */
function proxyInTheWay(proxy: ProxyError, doing: string): GitLabError {
  return new GitLabError("gitlab_proxy", `${doing}: ${proxy.message}`, {
    cause: proxy.cause,
    retryable: true,
    ...(proxy.hint === undefined ? {} : { hint: proxy.hint }),
  });
}

/** An answer that no runner endpoint of GitLab gives in good order, as an error. */
export function gitLabErrorOf(status: number, location: string | undefined, doing: string): GitLabError {
  if (status >= 500) {
    const why =
      status === 503 ? "it is in maintenance, starting or overloaded" : "it has an internal problem";
    return new GitLabError("gitlab_unavailable", `${doing}: GitLab answers ${status}, ${why}`, {
      retryable: true,
    });
  }
  if (status === 408 || status === 409 || status === 429) {
    return new GitLabError("gitlab_unavailable", `${doing}: GitLab is busy (${status})`, { retryable: true });
  }
  const answer =
    location === undefined ? `answers ${status}` : `answers ${status} and points to ${origin(location)}`;
  return new GitLabError("gitlab_wrong_url", `${doing}: the server ${answer}, which is not GitLab's API`, {
    hint: "set gitlab.url to the address that GitLab itself uses, with its path if it lives under one",
  });
}

/** What GitLab's answer says against a runner's token, or the runner; undefined for any other answer. */
export function tokenRefusal(
  status: number,
  doing: string,
  named = "the runner token",
): GitLabError | undefined {
  if (status === 401 || status === 403) {
    return new GitLabError("gitlab_wrong_token", `${doing}: GitLab does not know ${named} (${status})`, {
      hint: "create a runner in GitLab and put its token (glrt-…) into the pool; a deleted runner's token stays invalid",
    });
  }
  if (status !== 422) return undefined;
  return new GitLabError(
    "gitlab_wrong_token",
    `${doing}: the runner has no owner project in GitLab any more (422)`,
    {
      hint: "assign the runner to a project in GitLab, or create another",
    },
  );
}

/** Only scheme, host and path: what a redirect adds behind them may be secret. */
function origin(location: string): string {
  const url = URL.parse(location, "http://relative.invalid");
  if (!url) return "an unreadable address";
  return url.host === "relative.invalid" ? url.pathname : `${url.origin}${url.pathname}`;
}

const configured = "gitlab.clientCertificateFile and gitlab.clientKeyFile";

/** What OpenSSL says of the alert with which a server ends a handshake that our certificate did not satisfy. */
const alerts: Readonly<Record<string, string>> = {
  CERTIFICATE_REQUIRED: "it asks for a client certificate",
  HANDSHAKE_FAILURE:
    "it ends the TLS handshake, as servers do that ask for a client certificate and get none",
  BAD_CERTIFICATE: "it does not take our client certificate",
  UNSUPPORTED_CERTIFICATE: "it does not take client certificates of this kind",
  CERTIFICATE_REVOKED: "our client certificate has been revoked",
  CERTIFICATE_EXPIRED: "our client certificate has expired",
  CERTIFICATE_UNKNOWN: "it does not take our client certificate",
  UNKNOWN_CA: "it does not know the authority of our client certificate",
  ACCESS_DENIED: "it does not let the owner of our client certificate in",
};

/** `ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED`, `ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE`. */
const alertCode = /^ERR_SSL_.+_ALERT_([A-Z_]+)$/;

/** The error that a code of OpenSSL's means when it is about our certificate; undefined when it is about something else. */
function clientCertificateError(code: string, doing: string, cause: unknown): GitLabError | undefined {
  const words = alerts[alertCode.exec(code)?.[1] ?? ""];
  return words === undefined ? undefined : refusal(`${doing}: GitLab's server is there, but ${words}`, cause);
}

/** nginx lets the handshake pass and answers 400 in words of its own. */
export function refusedCertificate(status: number, text: string): GitLabError | undefined {
  if (status !== 400) return undefined;
  if (text.includes("No required SSL certificate was sent")) {
    return refusal("GitLab's server is there, but it asks for a client certificate (400)");
  }
  if (text.includes("The SSL certificate error")) {
    return refusal("GitLab's server is there, but it does not take our client certificate (400)");
  }
  return undefined;
}

/** A renewed certificate is read by itself, so trying again may help without anybody changing the configuration. */
function refusal(message: string, cause?: unknown): GitLabError {
  return new GitLabError("gitlab_client_certificate", message, {
    cause,
    retryable: true,
    hint: `give a certificate that GitLab's administrator has made for this computer in ${configured}`,
  });
}
