/** What the image.json of each image was when it was built: a digest covers an image's files, and this all that is said of them. */
import { dirname, join } from "node:path";
import { systemCode } from "../base/errors.ts";
import { makeDirectory } from "../base/make-directory.ts";
import { readTrusted } from "../base/trusted-file.ts";
import { writeFileDurably } from "./durable.ts";
import { sha256, shortDigest } from "./manifest.ts";

export interface Seals {
  set(digest: string, manifest: Uint8Array): Promise<void>;
  /** True for the image.json that was sealed, and for an image that was built before there were seals. */
  isIntact(digest: string, manifest: Uint8Array): Promise<boolean>;
}

export function createSeals(directory: string): Seals {
  const placeOf = (digest: string) => join(directory, shortDigest(digest));
  return {
    async set(digest, manifest) {
      const place = placeOf(digest);
      await makeDirectory(dirname(place), 0o755);
      await writeFileDurably(place, `${sha256(manifest)}\n`);
    },
    async isIntact(digest, manifest) {
      try {
        const seal = await readTrusted(placeOf(digest), { maxBytes: 1_024, secret: false });
        return seal.toString("utf8").trim() === sha256(manifest);
      } catch (error) {
        if (systemCode(error) === "ENOENT") return true;
        throw error;
      }
    },
  };
}
