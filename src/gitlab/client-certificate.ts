import { GitLabError } from "./errors.ts";

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
export function clientCertificateError(code: string, doing: string, cause: unknown): GitLabError | undefined {
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
