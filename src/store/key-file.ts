import { open, readFile, rename, stat } from "node:fs/promises";
import { systemCode } from "../base/errors.ts";
import { StoreError } from "./errors.ts";
import { syncDirectoryOf } from "./private-file.ts";
import { KEY_BYTES } from "./vault.ts";

/** The installation's key, or undefined when there is none yet. Refuses a key that others can read. */
export async function readKey(path: string): Promise<Uint8Array | undefined> {
  const found = await stat(path).catch((error: unknown) => {
    if (systemCode(error) === "ENOENT") return undefined;
    throw unreadable(path, error);
  });
  if (found === undefined) return undefined;
  if ((found.mode & 0o077) !== 0) {
    throw new StoreError("store_key", `other users can read the key file ${path}`, {
      hint: `chmod 600 ${path}; if others may have read it, end all jobs and delete it: a new one is made`,
    });
  }
  const key = await readFile(path).catch((error: unknown) => {
    throw unreadable(path, error);
  });
  if (key.length === KEY_BYTES) return key;
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
    await syncDirectoryOf(path);
  } catch (cause) {
    throw new StoreError("store_key", `the key file ${path} cannot be written`, {
      cause,
      hint: "check that the state directory exists, has room, and belongs to the user FireRunner runs as",
    });
  }
  return key;
}

function unreadable(path: string, cause: unknown): StoreError {
  return new StoreError("store_key", `the key file ${path} cannot be read`, {
    cause,
    hint: "it must belong to the user FireRunner runs as",
  });
}
