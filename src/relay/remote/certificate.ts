import { constants, createPrivateKey, X509Certificate } from "node:crypto";
import { createSecureContext, type SecureContext } from "node:tls";
import type { Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import { createFileBacked, TLS_FLOOR, validityOf } from "../../base/tls.ts";
import { readTrusted, UntrustedError } from "../../base/trusted-file.ts";
import { MIB_BYTES } from "../../base/units.ts";
import type { RelayTls } from "../config.ts";
import { RelayError } from "../errors.ts";

/** What the relay shows to guests on the network, and what they trust it by. */
export interface RelayCertificate {
  /** For each new connection. */
  readonly context: SecureContext;
  /** PEM of the authority. */
  readonly ca: string;
  /** Epoch ms. */
  endsAt(): number;
  /** Renews it when it is about to end, or takes over files that have changed. To be called now and then. Never rejects. */
  look(): Promise<void>;
}

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
  const { log, clock, files } = options;
  const kept = await createFileBacked({
    paths: () => Object.values(files),
    read: () => load(options),
    use: (next, present) => next.text !== present.text,
  });
  let warnedOn: string | undefined;
  warnOfEnd();

  function warnOfEnd(): void {
    const { validFrom, validTo } = new X509Certificate(kept.value.certificate);
    const dates = { validFrom: Date.parse(validFrom), validUntil: Date.parse(validTo) };
    const today = new Date(clock.now()).toISOString().slice(0, 10);
    const validity = validityOf(dates, clock.now());
    if (warnedOn === today || validity === "good" || validity === "not yet valid") return;
    warnedOn = today;
    log.warn({ until: new Date(dates.validUntil) }, "the relay's certificate ends soon, or has ended");
  }

  return {
    get ca() {
      return kept.value.ca;
    },
    get context() {
      return kept.value.context;
    },
    endsAt: () => validUntilOf(kept.value.certificate),
    async look() {
      const outcome = await kept.refresh();
      if (outcome === "renewed") log.info({}, "the relay has a new certificate");
      if (typeof outcome === "object") {
        const why = describeError(outcome.unusable);
        log.warn({ why }, "the relay's new certificate cannot be used; the old one stays");
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
