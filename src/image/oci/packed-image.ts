/**
 * An image in the form in which hosts of a fleet pull it: layers for two OCI images. Their digests are kept in `oci.json` beside the
 * image, so that a layer is compressed again only when a registry lacks it. The compressed layers themselves lie in `oci/`
 * until a push has ended well.
 */

import { createHash, type Hash, randomBytes } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { type FileHandle, open, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { versions } from "node:process";
import { pipeline } from "node:stream/promises";
import { constants, createZstdCompress } from "node:zlib";
import { z } from "zod";
import { syncPath, writeFileDurably } from "../../base/durable-file.ts";
import { systemCode } from "../../base/errors.ts";
import { parseJson } from "../../base/json.ts";
import { makeDirectory } from "../../base/trusted-file.ts";
import { IMAGE_EPOCH_S } from "../base-layer.ts";
import { removeTree } from "../durable.ts";
import { ImageError } from "../errors.ts";
import { type ImageManifest, sha256 } from "../manifest.ts";
import { readSquashfsAsTar } from "../squashfs.ts";
import type { LayerBlob } from "./documents.ts";
import { toOciLayer } from "./overlay-tar.ts";
import { BLOCK_BYTES, padding, type TarKind, writeTarHeader } from "./tar.ts";

/** Raised whenever the code here makes something else from the same image. The compressor's version matters likewise. */
const RECIPE = sha256(JSON.stringify([1, versions["zstd"] ?? "", versions.node.split(".")[0]]));

const Digest = z.string().regex(/^sha256:[0-9a-f]{64}$/);
const Layer = z.strictObject({ digest: Digest, bytes: z.number().int().positive(), diffId: Digest });
const Record = z.strictObject({
  recipe: z.literal(RECIPE),
  kernel: z.array(Layer).length(1),
  root: z.array(Layer).min(1),
});

interface PackedLayers {
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

/**
 * Of the 241 MB of a base layer zstd -9 makes 57 MB in the processor time (5.5 s) in which gzip -6 makes 80 MB. containerd has
 * unpacked it since 1.5.
 */
const ZSTD_LEVEL = 9;

/** Compresses an archive into the file `<directory>/<hex digits of its digest>` while it streams. */
async function packLayer(
  tar: AsyncIterable<Uint8Array>,
  directory: string,
  signal: AbortSignal | undefined,
): Promise<LayerBlob> {
  await makeDirectory(directory, 0o755);
  const temporary = join(directory, `${randomBytes(6).toString("hex")}.tmp`);
  const plain = createHash("sha256");
  const packed = createHash("sha256");
  let bytes = 0;
  const compress = createZstdCompress({
    chunkSize: 1 << 20,
    params: { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL },
  });
  try {
    await pipeline(
      hashing(tar, plain),
      compress,
      (chunks: AsyncIterable<Buffer>) => hashing(chunks, packed, (more) => (bytes += more)),
      createWriteStream(temporary, { mode: 0o644 }),
      signal ? { signal } : {},
    );
    await syncPath(temporary);
    const hex = packed.digest("hex");
    await rename(temporary, blobPath(directory, `sha256:${hex}`));
    return { digest: `sha256:${hex}`, bytes, diffId: `sha256:${plain.digest("hex")}` };
  } finally {
    await rm(temporary, { force: true });
  }
}

function blobPath(directory: string, digest: string): string {
  return join(directory, digest.replace("sha256:", ""));
}

async function* hashing(
  chunks: AsyncIterable<Uint8Array>,
  hash: Hash,
  onBytes: (bytes: number) => void = () => {},
): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    hash.update(chunk);
    onBytes(chunk.length);
    yield chunk;
  }
}

/** Where hosts of a fleet look for them in the kernel image. */
const KERNEL_PATH = "boot/vmlinux";
const INITRAMFS_PATH = "boot/initrd.img";

interface SourceFile {
  readonly path: string;
  readonly bytes: number;
}

/** The only layer of the kernel image, as a tar archive. */
export async function* kernelLayer(kernel: SourceFile, initramfs: SourceFile): AsyncGenerator<Buffer> {
  yield header("directory", "boot/", 0o755, 0);
  yield* file(KERNEL_PATH, kernel);
  yield* file(INITRAMFS_PATH, initramfs);
  yield Buffer.alloc(2 * BLOCK_BYTES);
}

async function* file(name: string, { path, bytes }: SourceFile): AsyncGenerator<Buffer> {
  yield header("file", name, 0o644, bytes);
  yield* createReadStream(path, { highWaterMark: 1 << 20 });
  yield padding(bytes);
}

function header(kind: TarKind, path: string, mode: number, bytes: number): Buffer {
  return writeTarHeader({ kind, path, mode, bytes, mtimeS: IMAGE_EPOCH_S });
}
