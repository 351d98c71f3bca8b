/** What the codes mean with which Node and its HTTP client say that a connection failed. */

/** The other side's certificate is not to be trusted. */
export const certificateCode =
  /^(CERT_|ERR_TLS_CERT|DEPTH_ZERO_SELF_SIGNED|SELF_SIGNED_CERT|UNABLE_TO_(VERIFY|GET|DECRYPT)|INVALID_CA|HOSTNAME_MISMATCH)/;

/** Something speaks on that port, but not what was expected. */
export const wrongProtocolCode = /^(ERR_SSL_|EPROTO$|HPE_)/;

/** In words, of the other side. */
export const unreachableProblems: Readonly<Record<string, string>> = {
  ECONNREFUSED: "the connection was refused",
  ENOTFOUND: "its name cannot be resolved",
  EAI_AGAIN: "its name cannot be resolved just now",
  EHOSTUNREACH: "there is no route to it",
  ENETUNREACH: "there is no route to it",
  ETIMEDOUT: "the connection timed out",
  ECONNRESET: "the connection was cut",
  EPIPE: "the connection was cut",
  UND_ERR_CONNECT_TIMEOUT: "no connection within 10 s",
  UND_ERR_HEADERS_TIMEOUT: "no answer in time",
  UND_ERR_BODY_TIMEOUT: "the answer stopped halfway",
  UND_ERR_SOCKET: "the connection was cut",
};
