import { createHash, type Hash, randomBytes } from "node:crypto";
import { createWriteStream } from "node:fs";
import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { constants, createZstdCompress } from "node:zlib";
import { makeDirectory } from "../../base/make-directory.ts";
import { syncPath } from "../durable.ts";
import type { LayerBlob } from "./documents.ts";

/**
 * Of the 241 MB of a base layer zstd -9 makes 57 MB in the processor time (5.5 s) in which gzip -6 makes 80 MB. containerd has
 * unpacked it since 1.5.
 */
const ZSTD_LEVEL = 9;

/** Compresses an archive into the file `<directory>/<hex digits of its digest>` while it streams. */
export async function packLayer(
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

export function blobPath(directory: string, digest: string): string {
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
