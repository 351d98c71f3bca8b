import { certificateCode, unreachableProblems, wrongProtocolCode } from "../base/connection-failure.ts";
import { codeIn } from "../base/errors.ts";
import { type ProxyError, proxyErrorIn } from "../base/proxy/errors.ts";
import { clientCertificateError } from "./client-certificate.ts";
import { GitLabError } from "./errors.ts";

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
