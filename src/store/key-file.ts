import { open, rename } from "node:fs/promises";
import { systemCode } from "../base/errors.ts";
import { readTrusted, UntrustedError } from "../base/trusted-file.ts";
import { StoreError } from "./errors.ts";
import { syncDirectoryOf } from "./private-file.ts";
import { KEY_BYTES } from "./vault.ts";

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
    await syncDirectoryOf(path);
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
