import { createPrivateKey, X509Certificate } from "node:crypto";
import { open, rename } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { syncPath } from "../../base/durable-file.ts";
import { describeError, systemCode } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import { makeDirectory, readTrusted } from "../../base/trusted-file.ts";
import { HOUR_MS } from "../../base/units.ts";
import {
  contextOf,
  isFor,
  type KeyPair,
  type RelayCertificate,
  unusable,
  validUntilOf,
} from "./certificate.ts";
import { issueCertificate } from "./issue-certificate.ts";

const DAY_MS = 24 * HOUR_MS;

/** Machines that run know only this authority: it outlives every one of them, and FireRunner's updates too. */
const AUTHORITY_DAYS = 20 * 365;

const SERVER_DAYS = 90;

const RENEW_BEFORE_DAYS = 30;

/** A guest's clock may be behind ours, and must find a new certificate valid all the same. */
const BACKDATED_DAYS = 1;

interface OwnCertificateOptions {
  /** Where authority and certificate are kept. */
  readonly directory: string;
  /** How guests reach the relay: a name or an address. */
  readonly serverName: string;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * A certificate by an authority of this installation's own: made at first start, kept in the state directory, and trusted by nobody but
 * the machines that are told of it. Throws RelayError `relay_certificate`.
 */
export async function createOwnCertificate(options: OwnCertificateOptions): Promise<RelayCertificate> {
  const { directory, serverName, clock, log } = options;
  const path = join(directory, "server.pem");
  const authority = await keptAuthority(directory, clock);
  let server = await usableServer();
  let context = contextOf(server);

  async function usableServer(): Promise<KeyPair> {
    const kept = await readPair(path).catch((error: unknown) => {
      log.warn({ path, why: describeError(error) }, "the relay's certificate is damaged; making a new one");
      return undefined;
    });
    return kept && isGood(kept) ? kept : await renew();
  }

  function isGood({ certificate }: KeyPair): boolean {
    return (
      isFor(certificate, serverName) && validUntilOf(certificate) - clock.now() > RENEW_BEFORE_DAYS * DAY_MS
    );
  }

  async function renew(): Promise<KeyPair> {
    const order = { server: { name: serverName, issuer: authority }, ...validity(clock, SERVER_DAYS) };
    const pair = issueCertificate(order);
    await writePair(path, pair).catch((cause: unknown) => {
      throw unusable(path, cause, "check the rights and the free space of the state directory");
    });
    log.info({ name: serverName, until: new Date(order.validUntil) }, "the relay has a new certificate");
    return pair;
  }

  return {
    ca: authority.certificate,
    get context() {
      return context;
    },
    endsAt: () => validUntilOf(server.certificate),
    async look() {
      if (isGood(server)) return;
      try {
        server = await renew();
        context = contextOf(server);
      } catch (error) {
        log.warn({ why: describeError(error) }, "the relay's certificate could not be renewed yet");
      }
    },
  };
}

async function keptAuthority(directory: string, clock: Clock): Promise<KeyPair> {
  const path = join(directory, "authority.pem");
  try {
    const kept = await readPair(path);
    if (kept) return kept;
    const made = issueCertificate(validity(clock, AUTHORITY_DAYS));
    await writePair(path, made);
    return made;
  } catch (cause) {
    const hint =
      "restore it from a backup, or delete it: a new one is made, and machines that run on other hosts are lost";
    throw unusable(`the relay's authority in ${path}`, cause, hint);
  }
}

function validity(clock: Clock, days: number) {
  const now = clock.now();
  return { validFrom: now - BACKDATED_DAYS * DAY_MS, validUntil: now + days * DAY_MS };
}

const LARGEST_FILE_BYTES = 64 * 1024;

/** A certificate and its key in one file, so that they can never be of different ages. Undefined when there is none. */
export async function readPair(path: string): Promise<KeyPair | undefined> {
  const read = await readTrusted(path, { maxBytes: LARGEST_FILE_BYTES, secret: true }).catch(
    (error: unknown) => {
      if (systemCode(error) === "ENOENT") return undefined;
      throw error;
    },
  );
  if (read === undefined) return undefined;
  const text = read.toString("utf8");
  const pair = { certificate: blockOf(text, "CERTIFICATE"), key: blockOf(text, "PRIVATE KEY") };
  if (!new X509Certificate(pair.certificate).checkPrivateKey(createPrivateKey(pair.key))) {
    throw new Error("its key and its certificate do not belong together");
  }
  return pair;
}

/** Wholly there or not at all, whenever the power goes; for this user only. */
async function writePair(path: string, { certificate, key }: KeyPair): Promise<void> {
  await makeDirectory(dirname(path), 0o700);
  const temporary = `${path}.new`;
  {
    await using file = await open(temporary, "w", 0o600);
    await file.chmod(0o600);
    await file.writeFile(`${certificate.trimEnd()}\n${key.trimEnd()}\n`);
    await file.sync();
  }
  await rename(temporary, path);
  await syncPath(dirname(path));
}

function blockOf(text: string, holds: string): string {
  const block = new RegExp(`-----BEGIN ${holds}-----[^]*?-----END ${holds}-----`).exec(text)?.[0];
  if (block === undefined) throw new Error(`it holds no ${holds.toLowerCase()}`);
  return `${block}\n`;
}
