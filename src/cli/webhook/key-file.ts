import { chown, open, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { syncPath } from "../../base/durable-file.ts";
import { describeError, systemCode } from "../../base/errors.ts";
import type { Secret } from "../../base/secret.ts";
import { CliError } from "../errors.ts";

export type KeyChange = "kept" | "made" | "rotated";

export interface KeyFileOptions {
  readonly rotate: boolean;
  readonly newKey: () => Secret;
  /** Whose file a new one is to be, when this user may give files away: the state directory's owner. */
  readonly ownerOf: string;
}

/**
 * Makes the file of signing keys when it is missing; with `rotate` puts a new key before the newest that is there, so that
 * what GitLab has signed with that one is still accepted. The file is there whole or not at all, readable for its owner alone.
 */
export async function prepareKeyFile(path: string, options: KeyFileOptions): Promise<KeyChange> {
  const { rotate, newKey, ownerOf } = options;
  try {
    const old = await readIfThere(path);
    if (old !== undefined && !rotate) return "kept";
    const [newest] = (old ?? "").split(/\s+/).filter((word) => word !== "");
    const lines = [newKey().reveal(), ...(newest === undefined ? [] : [newest])];
    await writeWhole(path, `${lines.join("\n")}\n`, old === undefined ? ownerOf : path);
    return old === undefined ? "made" : "rotated";
  } catch (cause) {
    if (cause instanceof CliError) throw cause;
    throw new CliError("cli_key_file", `writing the signing key ${path} failed: ${describeError(cause)}`, {
      cause,
      hint: `The directory ${dirname(path)} must exist and be writable for this user; or use sudo, or another webhook.signingKeyFile.`,
    });
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  return await readFile(path, "utf8").catch((error: unknown) => {
    if (systemCode(error) === "ENOENT") return undefined;
    throw error;
  });
}

/** `like`: the file or directory whose owner the new file gets, as far as this user may say so. */
async function writeWhole(path: string, text: string, like: string): Promise<void> {
  const temporary = `${path}.new`;
  const owner = await stat(like).catch(() => undefined);
  try {
    await using file = await open(temporary, "w", 0o600);
    await file.chmod(0o600);
    await file.writeFile(text);
    if (owner && process.getuid?.() === 0) await chown(temporary, owner.uid, owner.gid);
    await file.sync();
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncPath(dirname(path));
}
