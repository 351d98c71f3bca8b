import { describeError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import { createFileBacked, readTlsPair, type TlsFiles, type TlsPair, validityOf } from "../../base/tls.ts";
import { HttpError } from "../errors.ts";

/** Keeps the certificate that the files hold in use. */
export interface CertificateReloader {
  readonly pair: TlsPair;
  /** Reads the files if they have changed since the last look. Returns what came of it, in words, or undefined. Never rejects. */
  refresh(files: TlsFiles): Promise<string | undefined>;
}

interface CertificateReloaderDeps {
  readonly log: Log;
  readonly now: () => number;
  /** To be used for every connection from now on. Throws when it cannot be used. */
  readonly onPair: (pair: TlsPair) => void;
}

/** Throws HttpError `door_certificate` when the files hold no pair that can be used. */
export async function createCertificateReloader(
  first: TlsFiles,
  deps: CertificateReloaderDeps,
): Promise<CertificateReloader> {
  const { log, now, onPair } = deps;
  let files = first;
  const kept = await createFileBacked({
    paths: () => [files.certificateFile, files.keyFile],
    read: () => readServerPair(files),
    use(next, present) {
      if (next.cert.equals(present.cert) && next.key.equals(present.key)) return false;
      onPair(next);
      return true;
    },
  });
  warnOfDates();

  function warnOfDates(): void {
    const { validFrom, validUntil } = kept.value;
    const validity = validityOf(kept.value, now());
    if (validity === "good") return;
    log.warn({ validFrom: day(validFrom), validUntil: day(validUntil) }, warnings[validity]);
  }

  return {
    get pair() {
      return kept.value;
    },
    async refresh(next) {
      files = next;
      const outcome = await kept.refresh();
      if (outcome === "unchanged") return undefined;
      if (outcome !== "renewed") {
        const why = describeError(outcome.unusable);
        log.warn({ why }, "the new certificate cannot be used; the old one stays");
        return `http.tls: ${why}; the old certificate stays`;
      }
      const validUntil = day(kept.value.validUntil);
      log.info({ validUntil }, "the public server has a new certificate");
      warnOfDates();
      return `http.tls: new certificate, valid until ${validUntil}`;
    },
  };
}

const warnings = {
  "has ended": "the certificate of the public server has expired",
  "not yet valid": "the certificate of the public server is not yet valid",
  "ends soon": "the certificate of the public server expires soon",
};

function day(at: number): string {
  return new Date(at).toISOString().slice(0, 10);
}

/** Throws HttpError `door_certificate` that says which file is wrong, and how. A certificate that has expired is none. */
export async function readServerPair(files: TlsFiles): Promise<TlsPair> {
  return await readTlsPair(
    files,
    (message, options) =>
      new HttpError("door_certificate", message, {
        hint: "http.tls names a PEM file with the certificate and its chain, and one with its private key.",
        ...options,
      }),
  );
}
