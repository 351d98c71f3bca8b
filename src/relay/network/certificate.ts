import { constants, X509Certificate } from "node:crypto";
import { createSecureContext, type SecureContext } from "node:tls";
import { RelayError } from "../errors.ts";
import type { KeyPair } from "./issue-certificate.ts";

/** What the relay shows to guests on the network, and what they trust it by. */
export interface RelayCertificate {
  /** For each new connection. */
  readonly context: SecureContext;
  /** PEM of the authority. */
  readonly ca: string;
  /** Renews it when it is about to end, or takes over files that have changed. To be called now and then. Never rejects. */
  look(): Promise<void>;
}

const TLS_FLOOR = "TLSv1.2";
const { SSL_OP_NO_RENEGOTIATION } = constants;

/** Throws when the pair cannot be used. */
export function contextOf({ certificate, key }: KeyPair): SecureContext {
  return createSecureContext({
    cert: certificate,
    key,
    minVersion: TLS_FLOOR,
    secureOptions: SSL_OP_NO_RENEGOTIATION,
  });
}

/** Epoch ms. */
export function validUntilOf(certificate: string): number {
  return Date.parse(new X509Certificate(certificate).validTo);
}

export function isFor(certificate: string, name: string): boolean {
  const parsed = new X509Certificate(certificate);
  return (parsed.checkHost(name) ?? parsed.checkIP(name)) !== undefined;
}

export function unusable(what: string, cause: unknown, hint: string): RelayError {
  return new RelayError("relay_certificate", `${what} cannot be used`, { cause, hint });
}
