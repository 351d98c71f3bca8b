/** Certificates: pairs read from files and checked, and whom a connection trusts. */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { stat } from "node:fs/promises";
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import { describeError, systemCode } from "./errors.ts";
import { createMutex } from "./keyed-mutex.ts";
import { readTrusted, UntrustedError } from "./trusted-file.ts";
import { DAY_MS, MIB_BYTES } from "./units.ts";

const LARGEST_FILE_BYTES = MIB_BYTES;

/** The paths of two PEM files. */
export interface TlsFiles {
  readonly certificateFile: string;
  readonly keyFile: string;
}

/** A certificate with its chain and its key, as PEM, checked to fit each other. */
export interface TlsPair {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** Epoch ms. */
  readonly validFrom: number;
  readonly validUntil: number;
}

export const TLS_FLOOR = "TLSv1.2";

/** Makes the error of the module that needs the pair, of a message that says which file is wrong, and how. */
type WrongFile = (message: string, options?: ErrorOptions & { hint?: string }) => Error;

/** Throws what `wrong` makes. A certificate that has expired is returned. */
export async function readTlsPair(files: TlsFiles, wrong: WrongFile): Promise<TlsPair> {
  const { certificateFile, keyFile } = files;
  const cert = await read(certificateFile, "certificate", wrong);
  const key = await read(keyFile, "private key", wrong);
  const certificate = parseCertificate(cert, certificateFile, wrong);
  if (!certificate.checkPrivateKey(parseKey(key, keyFile, wrong))) {
    throw wrong(`the key in ${keyFile} does not belong to the certificate in ${certificateFile}`, {
      hint: "If the file holds a chain, the certificate that the key belongs to has to be the first in it.",
    });
  }
  try {
    createSecureContext({ cert, key, minVersion: TLS_FLOOR });
  } catch (cause) {
    throw wrong(`the certificate in ${certificateFile} cannot be used: ${opensslMessage(cause)}`, { cause });
  }
  return {
    cert,
    key,
    validFrom: Date.parse(certificate.validFrom),
    validUntil: Date.parse(certificate.validTo),
  };
}

/** What was read of files that change while we run, as it was when it could last be used. */
export interface FileBacked<Value> {
  readonly value: Value;
  /** Reads the files anew if they have changed since the last time. Never rejects. One after the other, so that no older value comes last. */
  refresh(): Promise<"unchanged" | "renewed" | { readonly unusable: unknown }>;
}

export interface FileBackedOptions<Value> {
  /** Which files it is of; other ones than before count as a change. */
  readonly paths: () => readonly string[];
  readonly read: () => Promise<Value>;
  /** Takes the new value into use: returns false when it is no other than the present one, and throws when it cannot be used. */
  readonly use?: (next: Value, present: Value) => boolean;
}

/** Throws what `read` throws. */
export async function createFileBacked<Value>(options: FileBackedOptions<Value>): Promise<FileBacked<Value>> {
  const { paths, read, use = () => true } = options;
  const oneByOne = createMutex();
  // Before reading: what changes in between is seen the next time.
  let stamp = await stampOf(paths());
  let value = await read();
  return {
    get value() {
      return value;
    },
    refresh: () =>
      oneByOne(async () => {
        const seen = await stampOf(paths());
        if (seen === stamp) return "unchanged";
        stamp = seen;
        try {
          const next = await read();
          if (!use(next, value)) return "unchanged";
          value = next;
          return "renewed";
        } catch (error) {
          return { unusable: error };
        }
      }),
  };
}

/** Changes whenever one of the files does; a file that cannot be read has a stamp too. */
async function stampOf(paths: readonly string[]): Promise<string> {
  const stamps = paths.map(async (path) => {
    try {
      const { ino, size, mtimeNs } = await stat(path, { bigint: true });
      return `${path} ${ino} ${size} ${mtimeNs}`;
    } catch (error) {
      return `${path} ${systemCode(error)}`;
    }
  });
  return (await Promise.all(stamps)).join("\n");
}

/** An end that is nearer than this is worth a warning: time enough to renew it. */
export const CERTIFICATE_ENDS_SOON_MS = 14 * DAY_MS;

/** How a certificate stands in time. */
export function validityOf(
  { validFrom, validUntil }: { readonly validFrom: number; readonly validUntil: number },
  now: number,
): "good" | "ends soon" | "has ended" | "not yet valid" {
  if (now >= validUntil) return "has ended";
  if (now < validFrom) return "not yet valid";
  return validUntil - now < CERTIFICATE_ENDS_SOON_MS ? "ends soon" : "good";
}

async function read(path: string, what: string, wrong: WrongFile): Promise<Buffer> {
  try {
    return await readTrusted(path, { maxBytes: LARGEST_FILE_BYTES, secret: what === "private key" });
  } catch (cause) {
    if (cause instanceof UntrustedError) throw wrong(cause.message, { cause, hint: cause.hint ?? "" });
    const why = {
      ENOENT: "does not exist",
      EACCES: "may not be read by this user",
      EISDIR: "is a directory",
    };
    const problem = why[systemCode(cause) as keyof typeof why] ?? `cannot be read: ${describeError(cause)}`;
    throw wrong(`the file of the ${what}, ${path}, ${problem}`, { cause });
  }
}

function parseCertificate(pem: Buffer, path: string, wrong: WrongFile): X509Certificate {
  if (!pem.includes("-----BEGIN")) throw wrong(`${path} is no PEM file`);
  if (!/-----BEGIN (X509 |TRUSTED )?CERTIFICATE-----/.test(pem.toString("latin1"))) {
    const holds = pem.includes("PRIVATE KEY-----") ? "a private key" : "something else";
    throw wrong(`${path} holds ${holds} and no certificate`);
  }
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw wrong(`the certificate in ${path} is damaged: ${opensslMessage(cause)}`, { cause });
  }
}

function parseKey(pem: Buffer, path: string, wrong: WrongFile): KeyObject {
  if (!pem.includes("-----BEGIN")) throw wrong(`${path} is no PEM file`);
  if (!pem.includes("PRIVATE KEY-----")) throw wrong(`${path} holds no private key`);
  try {
    return createPrivateKey(pem);
  } catch (cause) {
    if (systemCode(cause) === "ERR_MISSING_PASSPHRASE") {
      throw wrong(`the key in ${path} is encrypted with a passphrase`, {
        cause,
        hint: "Decrypt it (openssl pkey -in KEY -out PLAIN) and let the file be read by this user only.",
      });
    }
    throw wrong(`the key in ${path} is damaged: ${opensslMessage(cause)}`, { cause });
  }
}

/** OpenSSL's `error:0480006C:PEM routines::no start line`, without the numbers. */
function opensslMessage(error: unknown): string {
  return describeError(error).replace(/^error:[0-9A-F]+:/i, "");
}

/** Of a file with authorities. All those of a system have some 250 KiB. */
export const MOST_AUTHORITIES_BYTES = 4 * MIB_BYTES;

/** What we show to a server that asks who we are. */
interface OwnCertificate {
  readonly cert: string | Buffer;
  readonly key: string | Buffer;
}

/**
 * Trusts the authorities of Node and of the system, and besides them those in `authorities`, each a PEM text. Make it once for many
 * connections: reading hundreds of certificates costs more than a request.
 */
export function trustContext(
  authorities: readonly (string | undefined)[],
  own?: OwnCertificate,
): SecureContext {
  const known = new Set([...getCACertificates("default"), ...getCACertificates("system")]);
  for (const pem of authorities) if (pem !== undefined) known.add(pem);
  return createSecureContext({ ca: [...known], ...(own ? { cert: own.cert, key: own.key } : {}) });
}

const block =
  /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----[^-]*-----END (?:X509 |TRUSTED )?CERTIFICATE-----/g;

/**
 * Every certificate of a PEM text, in its plain form. TLS ignores what it cannot read, and every connection would fail later with no hint
 * at the file: so this throws an Error that says, in words, what is wrong with the text.
 */
export function certificatesIn(pem: string): readonly X509Certificate[] {
  const blocks = pem.match(block) ?? [];
  if (blocks.length === 0) throw new Error("it holds no certificate in PEM form");
  return blocks.map((each, index) => {
    try {
      return new X509Certificate(each);
    } catch (cause) {
      throw new Error(`certificate ${index + 1} of ${blocks.length} in it is damaged`, { cause });
    }
  });
}
