/** Where a server listens, one listener for each address, and with which certificate: read from its files, and anew when they change. */
import { lookup } from "node:dns/promises";
import type { AddressInfo } from "node:net";
import type { FastifyInstance } from "fastify";
import { describeError, systemCode } from "../../base/errors.ts";
import { type ListenProblem, listenProblem } from "../../base/listen.ts";
import type { Log } from "../../base/log.ts";
import { createFileBacked, readTlsPair, type TlsFiles, type TlsPair, validityOf } from "../../base/tls.ts";
import { HttpError, type HttpErrorCode } from "../errors.ts";

/** Connections that the kernel holds until we take them: a burst of unknown clients must not make others wait for a retry. */
const BACKLOG = 4_096;

/** A server that listens on the network: what people call it, its section of the configuration, and the codes of its errors. */
export interface ServerName {
  readonly words: string;
  readonly section: string;
  readonly listenCode: HttpErrorCode;
  readonly certificateCode: HttpErrorCode;
}

/** One entry of `http.listen`, or of another server's. */
export interface Listener {
  /** As the configuration has it. */
  readonly text: string;
  readonly isTls: boolean;
  readonly host: string;
  readonly port: number;
}

export function parseListener(text: string): Listener {
  const isTls = !/^http:\/\//i.test(text);
  const [, host = "", port = ""] = /^(?:https?:\/\/)?(.*):(\d+)$/i.exec(text) ?? [];
  return { text, isTls, host: host.replace(/^\[|\]$/g, ""), port: Number(port) };
}

/** A name such as `localhost` may stand for several addresses: a listener for each. */
export async function resolveListener(listener: Listener, server: ServerName): Promise<Listener[]> {
  const found = await lookup(listener.host, { all: true }).catch((cause: unknown) => {
    const problem = { why: "its name is not known here", hint: "Name an address of this computer instead." };
    throw failed(server, listener, problem, cause);
  });
  return [...new Set(found.map(({ address }) => address))].map((host) => ({ ...listener, host }));
}

/**
 * Returns where it listens, as an address people can use. Undefined when this computer has no such address and `isOptional`.
 * Throws HttpError with the server's `listenCode`.
 */
export async function bind(
  app: FastifyInstance,
  listener: Listener,
  isOptional: boolean,
  server: ServerName,
): Promise<string | undefined> {
  const { host, port, isTls } = listener;
  try {
    await app.listen({ host, port, backlog: BACKLOG });
  } catch (cause) {
    const code = systemCode(cause);
    if (isOptional && (code === "EADDRNOTAVAIL" || code === "EAFNOSUPPORT")) return undefined;
    throw failed(server, listener, listenProblem(code, port, `${server.section}.listen`), cause);
  }
  const bound = app.server.address() as AddressInfo;
  const name = bound.family === "IPv6" ? `[${bound.address}]` : bound.address;
  return `${isTls ? "https" : "http"}://${name}:${bound.port}`;
}

function failed(
  { listenCode }: ServerName,
  listener: Listener,
  { why, hint }: ListenProblem,
  cause: unknown,
): HttpError {
  return new HttpError(listenCode, `listening on ${listener.text} failed: ${why}`, { cause, hint });
}

/** Keeps the certificate that the files hold in use. */
export interface CertificateReloader {
  readonly pair: TlsPair;
  /** Reads the files if they have changed since the last look. Returns what came of it, in words, or undefined. Never rejects. */
  refresh(files: TlsFiles): Promise<string | undefined>;
}

interface CertificateReloaderDeps {
  readonly server: ServerName;
  readonly log: Log;
  readonly now: () => number;
  /** To be used for every connection from now on. Throws when it cannot be used. */
  readonly onPair: (pair: TlsPair) => void;
}

/** Throws HttpError with the server's `certificateCode` when the files hold no pair that can be used. */
export async function createCertificateReloader(
  first: TlsFiles,
  deps: CertificateReloaderDeps,
): Promise<CertificateReloader> {
  const { log, now, onPair, server } = deps;
  const { words, section } = server;
  let files = first;
  const kept = await createFileBacked({
    paths: () => [files.certificateFile, files.keyFile],
    read: () => readServerPair(files, server),
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
    log.warn({ validFrom: day(validFrom), validUntil: day(validUntil) }, warningOf(validity, words));
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
        return `${section}.tls: ${why}; the old certificate stays`;
      }
      const validUntil = day(kept.value.validUntil);
      log.info({ validUntil }, `${words} has a new certificate`);
      warnOfDates();
      return `${section}.tls: new certificate, valid until ${validUntil}`;
    },
  };
}

function warningOf(validity: "has ended" | "not yet valid" | "ends soon", server: string): string {
  const warnings = {
    "has ended": "has expired",
    "not yet valid": "is not yet valid",
    "ends soon": "expires soon",
  };
  return `the certificate of ${server} ${warnings[validity]}`;
}

function day(at: number): string {
  return new Date(at).toISOString().slice(0, 10);
}

/** Throws HttpError with the server's `certificateCode` that says which file is wrong, and how. A certificate that has expired is none. */
export async function readServerPair(
  files: TlsFiles,
  { section, certificateCode }: ServerName,
): Promise<TlsPair> {
  return await readTlsPair(
    files,
    (message, options) =>
      new HttpError(certificateCode, message, {
        hint: `${section}.tls names a PEM file with the certificate and its chain, and one with its private key.`,
        ...options,
      }),
  );
}
