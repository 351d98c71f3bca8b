import { describeError } from "../../base/errors.ts";
import { createMutex } from "../../base/keyed-mutex.ts";
import type { Log } from "../../base/log.ts";
import { readTlsPair, stampOf, type TlsFiles, type TlsPair } from "../../base/tls.ts";
import { HttpError } from "../errors.ts";

const WARN_BEFORE_MS = 14 * 24 * 3_600_000;

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
  // Before reading: what changes in between is seen at the next look.
  let stamp = await stampOf([first.certificateFile, first.keyFile]);
  let pair = await readServerPair(first);
  const oneByOne = createMutex();
  warnOfDates();

  function warnOfDates(): void {
    const dates = { validFrom: day(pair.validFrom), validUntil: day(pair.validUntil) };
    if (now() >= pair.validUntil) log.warn(dates, "the certificate of the public server has expired");
    else if (now() < pair.validFrom) log.warn(dates, "the certificate of the public server is not yet valid");
    else if (pair.validUntil - now() < WARN_BEFORE_MS) {
      log.warn(dates, "the certificate of the public server expires soon");
    }
  }

  async function lookOnce(files: TlsFiles): Promise<string | undefined> {
    const seen = await stampOf([files.certificateFile, files.keyFile]);
    if (seen === stamp) return undefined;
    stamp = seen;
    try {
      const next = await readServerPair(files);
      if (next.cert.equals(pair.cert) && next.key.equals(pair.key)) return undefined;
      onPair(next);
      pair = next;
    } catch (error) {
      const why = describeError(error);
      log.warn({ why }, "the new certificate cannot be used; the old one stays");
      return `http.tls: ${why}; the old certificate stays`;
    }
    const validUntil = day(pair.validUntil);
    log.info({ validUntil }, "the public server has a new certificate");
    warnOfDates();
    return `http.tls: new certificate, valid until ${validUntil}`;
  }

  return {
    get pair() {
      return pair;
    },
    // So that a slow look does not put an older pair in place of a newer one.
    refresh: (files) => oneByOne(() => lookOnce(files)),
  };
}

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
