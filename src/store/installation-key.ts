/**
 * The state directory's own: the key that seals payloads and tokens, whether it is the right one, the lock that keeps a second program out,
 * and the files and directories that only we may use.
 */

import { chmod, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Kysely } from "kysely";
import { syncPath } from "../base/durable-file.ts";
import { systemCode } from "../base/errors.ts";
import { makeDirectory, readTrusted, requireTrusted, UntrustedError } from "../base/trusted-file.ts";
import { StoreError, toStoreError } from "./errors.ts";
import { eraseToken, retireRunner } from "./runners.ts";
import type { Tables } from "./tables.ts";
import { KEY_BYTES, type Vault } from "./vault.ts";
import type { Write } from "./writer.ts";

/** The key of the key file, made when it is missing and no payload needs the one that was there. Throws `store_key`. */
export async function installationKey(
  db: Kysely<Tables>,
  keyFile: string,
  random: (size: number) => Uint8Array,
): Promise<Uint8Array> {
  const key = await readKey(keyFile);
  if (key) return key;
  const payload = await db.selectFrom("payloads").select("jobId").limit(1).executeTakeFirst();
  if (!payload) return await createKey(keyFile, random);
  throw new StoreError("store_key", `the key file ${keyFile} is missing, and unfinished jobs need it`, {
    hint: "restore it from a backup; without it their payloads are lost: move the database away to start empty",
  });
}

/**
 * Throws `store_key` for a key that opens no payload. One payload that opens proves the key; one that does not may be damage
 * on the disk, all of them is another key. Tokens of runners do not count: a runner can be made anew, a job cannot.
 */
export async function refuseWrongKey(db: Kysely<Tables>, vault: Vault, keyFile: string): Promise<void> {
  const payloads = await db.selectFrom("payloads").selectAll().execute();
  const isRight = payloads.some(({ jobId, sealed }) => opens(() => vault.payloads.open(jobId, sealed)));
  if (isRight || payloads.length === 0) return;
  throw new StoreError("store_key", `the key in ${keyFile} is not the one this database was written with`, {
    hint: "restore the key that belongs to this database from a backup",
  });
}

/** Runners whose token no longer opens, by another key or by damage, are given up: deleted in GitLab, and others made for them. */
export async function retireUnreadable(db: Kysely<Tables>, vault: Vault, write: Write): Promise<void> {
  for (const { key, sealed } of await db.selectFrom("runnerTokens").selectAll().execute()) {
    if (opens(() => vault.runnerTokens.open(key, sealed))) continue;
    await write(`giving up runner ${key}`, async (change) => {
      await retireRunner(change, key, "its token cannot be read any more");
      await eraseToken(change.tx, key);
    });
  }
}

function opens(open: () => string): boolean {
  try {
    open();
    return true;
  } catch {
    return false;
  }
}

const LONGEST_KEY_FILE_BYTES = 4_096;

/** The installation's key, or undefined when there is none yet. Refuses a key that others can read or could have put there. */
export async function readKey(path: string): Promise<Uint8Array | undefined> {
  const key = await readTrusted(path, { maxBytes: LONGEST_KEY_FILE_BYTES, secret: true }).catch(
    (error: unknown) => {
      if (systemCode(error) === "ENOENT") return undefined;
      throw error instanceof UntrustedError ? untrusted(error) : unreadable(path, error);
    },
  );
  if (key === undefined) return undefined;
  if (key.length === KEY_BYTES && key.some((byte) => byte !== 0)) return key;
  if (key.length === KEY_BYTES) {
    throw new StoreError("store_key", `the key file ${path} holds no key: all of its bytes are zero`, {
      hint: "restore it from a backup; if no job is unfinished, delete it: a new one is made",
    });
  }
  throw new StoreError("store_key", `the key file ${path} has ${key.length} bytes instead of ${KEY_BYTES}`, {
    hint: "restore it from a backup; if no job is unfinished, delete it: a new one is made",
  });
}

/** Makes a key that is wholly there or not at all, whenever the power goes. */
export async function createKey(path: string, random: (size: number) => Uint8Array): Promise<Uint8Array> {
  const key = random(KEY_BYTES);
  const temporary = `${path}.new`;
  try {
    await using file = await open(temporary, "w", 0o600);
    await file.chmod(0o600);
    await file.writeFile(key);
    await file.sync();
    await rename(temporary, path);
    await syncPath(dirname(path));
  } catch (cause) {
    throw new StoreError("store_key", `the key file ${path} cannot be written`, {
      cause,
      hint: "check that the state directory exists, has room, and belongs to the user FireRunner runs as",
    });
  }
  return key;
}

function untrusted(cause: UntrustedError): StoreError {
  return new StoreError("store_key", cause.message, {
    cause,
    hint: `${cause.remedy}; if others may have read or written it, end all jobs and delete it: a new one is made`,
  });
}

function unreadable(path: string, cause: unknown): StoreError {
  return new StoreError("store_key", `the key file ${path} cannot be read`, {
    cause,
    hint: "it must belong to the user FireRunner runs as",
  });
}

/**
 * Makes a directory of ours when it is missing. Others may pass through, because machines run as another user and have
 * their directories below, but cannot list it; every file in it is readable for us alone. Throws UntrustedError when others can change
 * what is in it: whoever can do that says what machines boot and which key seals payloads.
 */
export async function makeStateDirectory(path: string): Promise<void> {
  await makeDirectory(path, 0o711);
  await requireTrusted(path);
}

/** Makes `path` exist with mode 0600 before anything is written to it. Keeps what is there, unless it is another's. */
export async function ensurePrivateFile(path: string): Promise<void> {
  await using file = await open(path, "a", 0o600);
  await requireTrusted(path);
  await file.chmod(0o600);
  await syncPath(dirname(path));
}

/**
 * One FireRunner per state directory. The lock is an exclusive transaction on a database file that never holds anything:
 * the kernel lets go of it when the process dies, however it dies, so a stale lock cannot be. The process id beside it is
 * for the message only. Nothing else in this process may open `lock`: closing any descriptor of a file drops its locks.
 */
interface StateLock {
  release(): Promise<void>;
}

const SQLITE_BUSY = 5;

export async function acquireStateLock(directory: string): Promise<StateLock> {
  const path = join(directory, "lock");
  const pidFile = `${path}.pid`;
  const lock = await lockFile(directory, path, pidFile);
  await writeFile(pidFile, `${process.pid}\n`, { mode: 0o600 });
  return {
    async release() {
      await rm(pidFile, { force: true });
      lock.close();
    },
  };
}

async function lockFile(directory: string, path: string, pidFile: string): Promise<DatabaseSync> {
  let db: DatabaseSync | undefined;
  try {
    await makeStateDirectory(directory);
    db = new DatabaseSync(path);
    db.exec("pragma journal_mode = memory; pragma locking_mode = exclusive; begin exclusive");
    await chmod(path, 0o600);
    return db;
  } catch (error) {
    db?.close();
    if ((error as { errcode?: number }).errcode !== SQLITE_BUSY) {
      throw toStoreError(`locking ${directory}`, error);
    }
    const pid = (await readFile(pidFile, "utf8").catch(() => "")).trim();
    const who = pid ? `another FireRunner (process ${pid})` : "another FireRunner";
    throw new StoreError("store_locked", `${who} already uses ${directory}`, {
      cause: error,
      hint: "stop it first, or give this one a state directory of its own",
    });
  }
}
