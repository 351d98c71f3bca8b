import { createPrivateKey, X509Certificate } from "node:crypto";
import { open, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { systemCode } from "../../base/errors.ts";
import { makeDirectory } from "../../base/make-directory.ts";
import { readTrusted } from "../../base/trusted-file.ts";
import { syncDirectoryOf } from "../../store/installation-key.ts";
import type { KeyPair } from "./issue-certificate.ts";

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
export async function writePair(path: string, { certificate, key }: KeyPair): Promise<void> {
  await makeDirectory(dirname(path), 0o700);
  const temporary = `${path}.new`;
  {
    await using file = await open(temporary, "w", 0o600);
    await file.chmod(0o600);
    await file.writeFile(`${certificate.trimEnd()}\n${key.trimEnd()}\n`);
    await file.sync();
  }
  await rename(temporary, path);
  await syncDirectoryOf(path);
}

function blockOf(text: string, holds: string): string {
  const block = new RegExp(`-----BEGIN ${holds}-----[^]*?-----END ${holds}-----`).exec(text)?.[0];
  if (block === undefined) throw new Error(`it holds no ${holds.toLowerCase()}`);
  return `${block}\n`;
}
