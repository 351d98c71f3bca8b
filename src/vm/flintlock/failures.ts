/**
 * What can go wrong with a call to flintlockd, as two tables: what it answers when it does not do what it is asked (nearly all of it is
 * UNKNOWN, so the text decides; the texts are those of v0.11.0), and what goes wrong on the way, by the codes of Node and OpenSSL.
 */
import { Code } from "@connectrpc/connect";
import { callFailure, type FailureRow, type HostFacts, hostFailure } from "./errors.ts";

const notFlintlockd = hostFailure(
  "vm_host_protocol",
  "what answers there is not flintlockd",
  "correct the host's address: another service listens there",
);

/** Of a list that came while a machine was being deleted: the next one is good. */
export const listDisturbed = callFailure(
  "vm_host_refused",
  "a machine went away while it was looked for",
  "nothing: it is asked again",
  true,
);

/** By code and text of the answer. */
export const daemonFailures: readonly FailureRow[] = [
  {
    // containerd's client says so whatever was asked of it.
    text: /transport: error while dialing|containerd\.sock/i,
    means: hostFailure(
      "vm_host_sick",
      "containerd does not answer it",
      "start containerd on the host, and then restart flintlockd: it hears nothing of a containerd that was restarted below it; machines run on",
    ),
  },
  {
    grpc: Code.Unauthenticated,
    text: /could not extract token/,
    means: ({ token }) =>
      hostFailure(
        "vm_host_credentials",
        token ? "it does not find the token that we send" : "it asks for a token, and none is configured",
        "give the host's entry flintlockd's --basic-auth-token as token or tokenFile",
      ),
  },
  {
    grpc: Code.Unauthenticated,
    means: hostFailure(
      "vm_host_credentials",
      "it refuses our token",
      "give the host's entry the token that flintlockd was started with (--basic-auth-token)",
    ),
  },
  { grpc: Code.Unimplemented, means: notFlintlockd },
  { text: /unsupported content type|^\[\w+\] HTTP \d+|missing trailer/, means: notFlintlockd },
  {
    text: /unexpected vmid format: ([^\s,;]+)/,
    means: (_, [, vmid = ""]) =>
      callFailure(
        "vm_host_sick",
        "a machine with a name that flintlockd cannot read breaks its list",
        `on the host: ctr -n flintlock leases rm flintlock/${vmid.replace(/^flintlock\//, "")}`,
        true,
      ),
  },
  {
    text: /failed reading from content store/,
    means: listDisturbed,
  },
  {
    text: /microvm spec \S* ?not found/,
    means: callFailure(
      "vm_host_unknown_machine",
      "it does not know the machine",
      "nothing: it is gone",
      true,
    ),
  },
  {
    text: /validation failures found: (.*)/s,
    means: (_, [, rules = ""]) =>
      callFailure(
        "vm_host_refused",
        `it finds ${fieldsIn(rules)} not acceptable`,
        "correct the size or the host's network settings",
        false,
      ),
  },
  {
    text: /not supported by the microvm provider|isn't available/,
    means: callFailure(
      "vm_host_refused",
      "its hypervisor cannot run such a machine",
      "look at flintlockd's --default-provider and --firecracker-bin on the host",
      true,
    ),
  },
  {
    grpc: Code.ResourceExhausted,
    means: hostFailure("vm_host_refused", "it asks us to be less busy", "nothing: it is asked again later"),
  },
  {
    grpc: Code.DeadlineExceeded,
    means: hostFailure("vm_host_timeout", "it did not answer in time", "look at the host's load"),
  },
  {
    grpc: Code.Unavailable,
    means: hostFailure(
      "vm_host_unreachable",
      "the connection ended before the answer",
      "look at flintlockd's log on the host: it may have crashed",
    ),
  },
  {
    grpc: Code.InvalidArgument,
    means: callFailure(
      "vm_host_refused",
      "it finds the request wrong",
      "look at flintlockd's version",
      false,
    ),
  },
];

/** `'MicroVM.Spec.VCPU'` → `VCPU`: the rules' own sentence is in the cause. */
function fieldsIn(rules: string): string {
  const names = [...rules.matchAll(/Key: 'MicroVM\.Spec\.([^']+)'/g)].map(([, name]) => name);
  return names.length === 0 ? "the machine" : `the machine's ${names.join(", ")}`;
}

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

/** By the code of the connection. */
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
