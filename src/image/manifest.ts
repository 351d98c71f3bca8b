import { createHash } from "node:crypto";
import { z } from "zod";
import { variants } from "./packages.ts";

/** The version of image.json that this program writes and reads. */
export const MANIFEST_SCHEMA = 1;

const Sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const ImageFile = z.strictObject({
  /** Beside image.json. */
  path: z.string().regex(/^[a-z0-9][a-z0-9.-]*$/),
  bytes: z.number().int().positive(),
  sha256: Sha256,
});
export type ImageFile = z.infer<typeof ImageFile>;

export const RunnerKind = z.enum(["official", "path", "stand-in"]);
export type RunnerKind = z.infer<typeof RunnerKind>;

/** `image.json`: what an image is made of and where that came from. */
export const ImageManifest = z.object({
  schema: z.literal(MANIFEST_SCHEMA),
  /** `sha256:` over the digests of all files. */
  digest: z.string().regex(/^sha256:[0-9a-f]{64}$/),
  architecture: z.string().regex(/^[a-z0-9]+$/),
  suite: z.string(),
  variant: z.enum(variants).default("base"),
  kernelVersion: z.string(),
  files: z.strictObject({ kernel: ImageFile, initramfs: ImageFile, layers: z.array(ImageFile).min(1) }),
  runner: z.strictObject({
    kind: RunnerKind,
    version: z.string(),
    sha256: Sha256,
    /** What this runner says of itself in job requests. */
    info: z.record(z.string(), z.unknown()),
    /** The same of its jobs in containers; absent where the image runs none. */
    containerInfo: z.record(z.string(), z.unknown()).optional(),
  }),
  /** Versions of the packages in the base layer, the kernel's among them. */
  packages: z.record(z.string(), z.string()),
  /** What the base layer, and the whole image, were made from: equal recipes are not built twice. */
  recipes: z.strictObject({ base: Sha256, image: Sha256 }),
  builtWith: z.record(z.string(), z.string()),
  createdAt: z.number().int(),
  /** What its machines can do (domain/guest-abilities.ts). Images of before this field have none of them. */
  abilities: z
    .array(z.string().regex(/^[a-z][a-z0-9-]{0,62}$/))
    .max(100)
    .default([]),
});
export type ImageManifest = z.infer<typeof ImageManifest>;

export function imageDigest(files: ImageManifest["files"]): string {
  const parts = [`kernel ${files.kernel.sha256}`, `initramfs ${files.initramfs.sha256}`];
  const layers = files.layers.map((layer) => `layer ${layer.sha256}`);
  return `sha256:${sha256([...parts, ...layers].join("\n"))}`;
}

/** All files of an image, in a fixed order. */
export function filesOf(manifest: Pick<ImageManifest, "files">): ImageFile[] {
  return [manifest.files.kernel, manifest.files.initramfs, ...manifest.files.layers];
}

export function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

/** The directory name of an image: the first 12 digits of its digest. */
export function shortDigest(digest: string): string {
  return digest.replace(/^sha256:/, "").slice(0, 12);
}
