/** What goes wrong between us and flintlockd, by the codes of Node and OpenSSL that it shows itself with. */
import { Code } from "@connectrpc/connect";
import { type FailureRow, type HostFacts, hostFailure } from "./failure.ts";

const protocol = (problem: string, hint: string) => hostFailure("vm_host_protocol", problem, hint);
const unreachable = (problem: string, hint: string) => hostFailure("vm_host_unreachable", problem, hint);
const certificate = (problem: string, hint: string) => hostFailure("vm_host_certificate", problem, hint);
const credentials = (problem: string, hint: string) => hostFailure("vm_host_credentials", problem, hint);

export const speaksTls = protocol(
  "it speaks TLS, and “plaintext” is configured",
  "take “plaintext: true” out of the host's entry, and name its authority in tls.caFile",
);
export const speaksHttp1 = protocol(
  "a web server of HTTP/1 answers there, not flintlockd",
  "correct the port in the host's address; flintlockd's gRPC listens on 9090, its HTTP gateway is of no use",
);
export const speaksOther = protocol(
  "what answers there does not speak HTTP/2",
  "correct the host's address: something else than flintlockd listens there",
);
export const connectionEnded = unreachable(
  "the connection ended before the answer",
  "look at flintlockd's log on the host: it may have been restarted, or have crashed",
);

/** A connection that closes without a word, once TLS is up: what servers do that do not like our certificate. */
export function closedAtOnce({ tls, certificate: ours }: HostFacts) {
  if (tls && ours)
    return credentials(
      "it closes the connection at once; it may not know our client certificate",
      "give tls.certificateFile a certificate of the authority in flintlockd's --tls-client-ca",
    );
  return connectionEnded;
}

export const transportFailures: readonly FailureRow[] = [
  {
    system:
      /^(UNABLE_TO_VERIFY_LEAF_SIGNATURE|UNABLE_TO_GET_ISSUER_CERT(_LOCALLY)?|SELF_SIGNED_CERT_IN_CHAIN|DEPTH_ZERO_SELF_SIGNED_CERT|CERT_(SIGNATURE_FAILURE|UNTRUSTED|REJECTED)|INVALID_CA)$/,
    means: certificate(
      "its certificate is signed by an authority that is not trusted here",
      "name the PEM file of that authority in the host's tls.caFile",
    ),
  },
  {
    system: /^CERT_HAS_EXPIRED$/,
    means: certificate("its certificate has expired", "give flintlockd a new certificate (--tls-cert)"),
  },
  {
    system: /^CERT_NOT_YET_VALID$/,
    means: certificate(
      "its certificate is not valid yet",
      "compare the clocks of the host and this computer",
    ),
  },
  {
    system: /^ERR_TLS_CERT_ALTNAME_INVALID$/,
    means: certificate(
      "its certificate is for another name",
      "use the certificate's name in the host's address, or give it in tls.serverName",
    ),
  },
  {
    system: /^ERR_SSL_(WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST|UNEXPECTED_MESSAGE)$/,
    means: protocol(
      "it does not speak TLS",
      "give flintlockd a certificate, or say “plaintext: true” if it was started with --insecure",
    ),
  },
  {
    system: /^ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL$/,
    means: protocol("it speaks TLS but not HTTP/2: it is not flintlockd", "correct the host's address"),
  },
  {
    system: /^ERR_SSL_(TLSV1_ALERT_PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL)$/,
    means: protocol("it does not speak TLS 1.3", "flintlockd does: correct the host's address"),
  },
  {
    system: /^ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED$/,
    means: credentials(
      "it asks for a client certificate, and none is configured",
      "name one in the host's tls.certificateFile and tls.keyFile",
    ),
  },
  {
    system: /^ERR_SSL_\w*ALERT_(UNKNOWN_CA|\w*CERTIFICATE\w*|ACCESS_DENIED|DECRYPT_ERROR)$/,
    means: credentials(
      "it does not accept our client certificate",
      "give tls.certificateFile a valid certificate of the authority in flintlockd's --tls-client-ca",
    ),
  },
  {
    system: /^ERR_OSSL_|^ERR_CRYPTO_/,
    means: credentials(
      "our own certificate, its key or the authority's file cannot be used",
      "check that tls.certificateFile and tls.keyFile belong together, and that all are PEM files",
    ),
  },
  {
    system: /^ECONNREFUSED$/,
    means: unreachable(
      "nobody listens there",
      "start flintlockd; without TLS files and without --insecure it runs but does not listen",
    ),
  },
  {
    system: /^ENOTFOUND$/,
    means: unreachable("its name does not resolve", "correct the host's address, or its name in DNS"),
  },
  {
    system: /^EAI_/,
    means: unreachable("the name server does not answer", "check DNS on this computer"),
  },
  {
    system: /^(EHOSTUNREACH|ENETUNREACH|ETIMEDOUT|EHOSTDOWN|ENETDOWN)$/,
    means: unreachable("there is no way to it through the network", "check the network and firewalls"),
  },
  { system: /^ERR_HTTP2_(ERROR|SESSION_ERROR)$/, text: /protocol error/i, means: speaksOther },
  { system: /^(ECONNRESET|EPIPE|ECONNABORTED|ERR_HTTP2_\w+)$/, means: connectionEnded },
  { text: /http\/2 stream closed with error code|EOF|transport is closing/, means: connectionEnded },
  { text: /PING timed out/, means: unreachable("the connection is dead", "check the network") },
  { grpc: Code.Canceled, means: connectionEnded },
];
