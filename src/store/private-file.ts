import { mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
import { requireTrusted } from "../base/trusted-file.ts";

/**
 * Makes a directory of ours when it is missing. Others may pass through, because machines run as another user and have
 * their directories below, but cannot list it; every file in it is readable for us alone. Throws UntrustedError when others can change
 * what is in it: whoever can do that says what machines boot and which key seals payloads.
 */
export async function makeStateDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o711 });
  await requireTrusted(path);
}

/** Makes `path` exist with mode 0600 before anything is written to it. Keeps what is there, unless it is another's. */
export async function ensurePrivateFile(path: string): Promise<void> {
  await using file = await open(path, "a", 0o600);
  await requireTrusted(path);
  await file.chmod(0o600);
  await syncDirectoryOf(path);
}

/** A new name in a directory survives a power cut only once the directory itself is on the disk. */
export async function syncDirectoryOf(path: string): Promise<void> {
  await using directory = await open(dirname(path), "r");
  await directory.sync();
}
