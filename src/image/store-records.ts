/**
 * The small files beside the images of a store: where an image has been pushed (`published.json`; one that is built anew has none yet),
 * which digest each name stands for (`names/`), and what each image.json was when it was built (`seals/`): a digest covers an image's
 * files, and the seal all that is said of them.
 */
import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import { writeFileDurably } from "../base/durable-file.ts";
import { systemCode } from "../base/errors.ts";
import { makeDirectory, readTrusted, UntrustedError } from "../base/trusted-file.ts";
import { ImageError, imageMissing } from "./errors.ts";
import { sha256, shortDigest } from "./manifest.ts";

const Publication = z.strictObject({
  /** As the registry is called on this computer, and the name without `/kernel` and `/root`. */
  registry: z.string(),
  name: z.string(),
  tags: z.array(z.string()),
  /** By digest, as hosts pull them. */
  kernel: z.string(),
  root: z.string(),
  pushedAt: z.number().int(),
  /** How the registry was spoken to, where it was said: whoever asks it later speaks to it in the same way. */
  plainHttp: z.boolean().exactOptional(),
  ca: z.string().exactOptional(),
});
export type Publication = z.infer<typeof Publication>;

const Record = z.strictObject({ schema: z.literal(1), publications: z.array(Publication) });

const fileOf = (imageDirectory: string) => join(imageDirectory, "published.json");

/** The latest first: that one counts. What cannot be read counts as not pushed: pushing again sends nothing that is there. */
export async function readPublications(imageDirectory: string): Promise<Publication[]> {
  try {
    return Record.parse(JSON.parse(await readFile(fileOf(imageDirectory), "utf8"))).publications;
  } catch {
    return [];
  }
}

export async function remember(imageDirectory: string, publication: Publication): Promise<void> {
  const { registry, name } = publication;
  const others = (await readPublications(imageDirectory)).filter(
    (each) => each.registry !== registry || each.name !== name,
  );
  const record = { schema: 1, publications: [publication, ...others] } satisfies z.input<typeof Record>;
  await writeFileDurably(fileOf(imageDirectory), `${JSON.stringify(record, null, 2)}\n`);
}

const namePattern = /^[a-z0-9][a-z0-9._-]{0,62}$/;

/** Which digest each name stands for: one small file per name. */
interface Names {
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
    await makeDirectory(directory, 0o755);
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

interface Seals {
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
