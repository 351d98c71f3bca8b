import { constants, createPrivateKey, X509Certificate } from "node:crypto";
import { createSecureContext, type SecureContext } from "node:tls";
import type { Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import { readTrusted, UntrustedError } from "../../base/trusted-file.ts";
import { HOUR_MS, MIB_BYTES } from "../../base/units.ts";
import type { RelayTls } from "../config.ts";
import { RelayError } from "../errors.ts";

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

const WARN_BEFORE_MS = 14 * 24 * HOUR_MS;
/** The authority travels in a machine's metadata, which has room for 48 kB. */
const LARGEST_FILE_BYTES = MIB_BYTES;
const LARGEST_CA_BYTES = 12 * 1024;

interface ConfiguredCertificateOptions {
  readonly files: RelayTls;
  readonly serverName: string;
  readonly clock: Clock;
  readonly log: Log;
}

/** The operator's own certificate, read again when its files change. Throws RelayError `relay_certificate`. */
export async function createConfiguredCertificate(
  options: ConfiguredCertificateOptions,
): Promise<RelayCertificate> {
  const { log, clock } = options;
  let current = await load(options);
  let warnedOn: string | undefined;
  warnOfEnd();

  function warnOfEnd(): void {
    const until = validUntilOf(current.certificate);
    const today = new Date(clock.now()).toISOString().slice(0, 10);
    if (until - clock.now() > WARN_BEFORE_MS || warnedOn === today) return;
    warnedOn = today;
    log.warn({ until: new Date(until) }, "the relay's certificate ends soon, or has ended");
  }

  return {
    get ca() {
      return current.ca;
    },
    get context() {
      return current.context;
    },
    async look() {
      try {
        const next = await load(options);
        if (next.text !== current.text) log.info({}, "the relay has a new certificate");
        current = next;
      } catch (error) {
        log.warn(
          { why: describeError(error) },
          "the relay's new certificate cannot be used; the old one stays",
        );
      }
      warnOfEnd();
    },
  };
}

async function load({ files, serverName }: ConfiguredCertificateOptions) {
  const { certificateFile, keyFile, caFile } = files;
  try {
    const [certificate, key, ca] = await Promise.all(
      [certificateFile, keyFile, caFile].map(async (path) =>
        (await readTrusted(path, { maxBytes: LARGEST_FILE_BYTES, secret: path === keyFile })).toString(
          "utf8",
        ),
      ),
    );
    const pair = { certificate: certificate ?? "", key: key ?? "" };
    if (!new X509Certificate(pair.certificate).checkPrivateKey(createPrivateKey(pair.key))) {
      throw new Error(`the key in ${keyFile} belongs to another certificate`);
    }
    if (!isFor(pair.certificate, serverName)) {
      throw new Error(`it is not for ${serverName}, the name in relay.advertise`);
    }
    if (Buffer.byteLength(ca ?? "") > LARGEST_CA_BYTES) {
      throw new Error(`${caFile} is larger than ${LARGEST_CA_BYTES} bytes: name only the one authority`);
    }
    new X509Certificate(ca ?? "");
    return { ...pair, ca: ca ?? "", context: contextOf(pair), text: [certificate, key, ca].join("\n") };
  } catch (cause) {
    const hint =
      (cause instanceof UntrustedError ? cause.hint : undefined) ??
      "relay.tls names PEM files: the certificate with its chain, its key, and the authority that signed it";
    throw unusable(`the certificate in ${certificateFile}`, cause, hint);
  }
}

/** PEM of a certificate and of its key. */
export interface KeyPair {
  readonly certificate: string;
  readonly key: string;
}
