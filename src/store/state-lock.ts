import { chmod, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { StoreError, toStoreError } from "./errors.ts";
import { makeStateDirectory } from "./installation-key.ts";

/**
 * One FireRunner per state directory. The lock is an exclusive transaction on a database file that never holds anything:
 * the kernel lets go of it when the process dies, however it dies, so a stale lock cannot be. The process id beside it is
 * for the message only. Nothing else in this process may open `lock`: closing any descriptor of a file drops its locks.
 */
export interface StateLock {
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
