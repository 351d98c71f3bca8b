/**
 * An image in the form in which hosts of a fleet pull it: layers for two OCI images. Their digests are kept in `oci.json` beside the
 * image, so that a layer is compressed again only when a registry lacks it. The compressed layers themselves lie in `oci/`
 * until a push has ended well.
 */
import { type FileHandle, open, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { versions } from "node:process";
import { z } from "zod";
import { systemCode } from "../../base/errors.ts";
import { removeTree, writeFileDurably } from "../durable.ts";
import { ImageError } from "../errors.ts";
import { parseJson } from "../json.ts";
import { type ImageManifest, sha256 } from "../manifest.ts";
import { readSquashfsAsTar } from "../squashfs.ts";
import type { LayerBlob } from "./documents.ts";
import { kernelLayer } from "./kernel-layer.ts";
import { toOciLayer } from "./overlay-tar.ts";
import { blobPath, packLayer } from "./pack.ts";

/** Raised whenever the code here makes something else from the same image. The compressor's version matters likewise. */
const RECIPE = sha256(JSON.stringify([1, versions["zstd"] ?? "", versions.node.split(".")[0]]));

const Digest = z.string().regex(/^sha256:[0-9a-f]{64}$/);
const Layer = z.strictObject({ digest: Digest, bytes: z.number().int().positive(), diffId: Digest });
const Record = z.strictObject({
  recipe: z.literal(RECIPE),
  kernel: z.array(Layer).length(1),
  root: z.array(Layer).min(1),
});

export interface PackedLayers {
  readonly kernel: readonly LayerBlob[];
  /** In the order in which they are unpacked: the base first. */
  readonly root: readonly LayerBlob[];
}

export interface PackedImage {
  layers(onLayer: (number: number, of: number) => void): Promise<PackedLayers>;
  /** The file of a layer, which is made again if need be. It can be read though somebody deletes it. */
  open(digest: string): Promise<FileHandle>;
  /** Deletes the compressed layers. */
  clear(): Promise<void>;
}

interface Image {
  readonly directory: string;
  readonly manifest: ImageManifest;
}

export function createPackedImage(image: Image, signal?: AbortSignal): PackedImage {
  const blobs = join(image.directory, "oci");
  let known: PackedLayers | undefined;

  async function layers(onLayer: (number: number, of: number) => void): Promise<PackedLayers> {
    known ??= await readPackedLayers(image.directory);
    if (known) return known;
    const all = sourcesOf(image, signal);
    const packed: LayerBlob[] = [];
    for (const source of all) {
      onLayer(packed.length + 1, all.length);
      packed.push(await packLayer(source(), blobs, signal));
    }
    known = { kernel: packed.slice(0, 1), root: packed.slice(1) };
    const record = { recipe: RECIPE, ...known };
    await writeFileDurably(join(image.directory, "oci.json"), `${JSON.stringify(record, null, 2)}\n`);
    return known;
  }

  async function openLayer(digest: string): Promise<FileHandle> {
    const there = await openIfThere(blobPath(blobs, digest));
    if (there) return there;
    const { kernel, root } = await layers(() => {});
    const source = sourcesOf(image, signal)[
      [...kernel, ...root].findIndex((layer) => layer.digest === digest)
    ];
    const packed = source && (await packLayer(source(), blobs, signal));
    if (packed?.digest === digest) return await open(blobPath(blobs, digest));
    await rm(join(image.directory, "oci.json"), { force: true });
    throw new ImageError(
      "image_build_failed",
      `a layer of the image became another one (${packed?.digest}, not ${digest})`,
      {
        hint: "push it again",
      },
    );
  }

  return { layers, open: openLayer, clear: () => removeTree(blobs) };
}

/** Undefined when this version of the program has not packed the image yet. */
export async function readPackedLayers(imageDirectory: string): Promise<PackedLayers | undefined> {
  const text = await readFile(join(imageDirectory, "oci.json"), "utf8").catch(() => "null");
  const record = Record.safeParse(parseJson(text));
  return record.success ? record.data : undefined;
}

/** What each layer is made from: that of the kernel image, then those of the root image. */
function sourcesOf({ directory, manifest }: Image, signal: AbortSignal | undefined) {
  const { kernel, initramfs, layers } = manifest.files;
  const at = (file: { path: string; bytes: number }) => ({
    path: join(directory, file.path),
    bytes: file.bytes,
  });
  const root = layers.map(
    (layer) => () => toOciLayer(readSquashfsAsTar(join(directory, layer.path), signal)),
  );
  return [() => kernelLayer(at(kernel), at(initramfs)), ...root];
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path);
  } catch (error) {
    if (systemCode(error) === "ENOENT") return undefined;
    throw error;
  }
}
