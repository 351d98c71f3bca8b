import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { systemCode } from "../base/errors.ts";
import { readTrusted, UntrustedError } from "../base/trusted-file.ts";
import { writeFileDurably } from "./durable.ts";
import { ImageError, imageMissing } from "./errors.ts";

const namePattern = /^[a-z0-9][a-z0-9._-]{0,62}$/;

/** Which digest each name stands for: one small file per name. */
export interface Names {
  /** A digest, or the beginning of one, stands for itself. Throws `image_missing`, or UntrustedError. */
  digestOf(name: string): Promise<string>;
  set(name: string, digest: string): Promise<void>;
  all(): Promise<ReadonlyMap<string, string>>;
}

export function createNames(directory: string): Names {
  async function digestOf(name: string): Promise<string> {
    if (/^(sha256:)?[0-9a-f]{12,64}$/.test(name)) return name;
    requireName(name, "image_missing");
    const text = await readTrusted(join(directory, name), { maxBytes: 1_024, secret: false }).catch(
      (cause) => {
        throw cause instanceof UntrustedError ? cause : imageMissing(name, cause);
      },
    );
    return text.toString("utf8").trim();
  }

  async function set(name: string, digest: string): Promise<void> {
    requireName(name, "image_build_failed");
    await mkdir(directory, { recursive: true, mode: 0o755 });
    await writeFileDurably(join(directory, name), `${digest}\n`);
  }

  async function all(): Promise<ReadonlyMap<string, string>> {
    const files = await readdir(directory).catch(emptyWhenAbsent);
    const names = files.filter((name) => namePattern.test(name) && !name.endsWith(".tmp"));
    return new Map(await Promise.all(names.map(async (name) => [name, await digestOf(name)] as const)));
  }

  return { digestOf, set, all };
}

function requireName(name: string, code: "image_missing" | "image_build_failed"): void {
  if (namePattern.test(name)) return;
  throw new ImageError(code, `“${name}” cannot be the name of an image`, {
    hint: "names are lower-case letters, digits, dots, dashes and underscores",
  });
}

export function emptyWhenAbsent(error: unknown): string[] {
  if (systemCode(error) === "ENOENT") return [];
  throw error;
}
