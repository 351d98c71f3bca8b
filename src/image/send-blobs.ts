import type { FileHandle } from "node:fs/promises";
import { Readable } from "node:stream";
import { formatBytes } from "../base/units.ts";
import { ImageError } from "./errors.ts";
import type { LayerBlob, OciDocument } from "./oci/documents.ts";
import type { PackedImage } from "./oci/packed-image.ts";
import type { OnProgress } from "./progress.ts";
import type { RegistryClient } from "./registry/client.ts";

const READ_BYTES = 256 * 1024;

/** What became of the blobs of a push. */
export interface SentBlobs {
  readonly blobs: number;
  readonly bytes: number;
  /** Were there already, or were taken over from another repository of the registry. */
  readonly present: number;
}

export interface Sender {
  /** Sees to it that the repository has these layers and this configuration. */
  send(repository: string, layers: readonly LayerBlob[], config: OciDocument): Promise<void>;
  sent(): SentBlobs;
}

interface Deps {
  readonly registry: RegistryClient;
  readonly packed: PackedImage;
  /** A repository of the registry that has a blob, by its digest. */
  readonly sources: ReadonlyMap<string, string>;
  readonly onProgress: OnProgress;
}

export function createSender({ registry, packed, sources, onProgress }: Deps): Sender {
  const count = { blobs: 0, bytes: 0, present: 0 };

  async function send(repository: string, layers: readonly LayerBlob[], config: OciDocument): Promise<void> {
    for (const layer of layers)
      await provide(repository, layer.digest, async () => await sendLayer(repository, layer));
    await provide(repository, config.digest, async () => {
      const read = (start: number, end: number) => Readable.from([config.body.subarray(start, end)]);
      await registry.upload(repository, { digest: config.digest, bytes: config.body.length, read }, () => {});
      return config.body.length;
    });
  }

  async function provide(repository: string, digest: string, upload: () => Promise<number>): Promise<void> {
    if ((await registry.hasBlob(repository, digest)) || (await isMounted(repository, digest))) {
      count.present += 1;
      return;
    }
    count.bytes += await upload();
    count.blobs += 1;
  }

  async function isMounted(repository: string, digest: string): Promise<boolean> {
    const source = sources.get(digest);
    return (
      source !== undefined && source !== repository && (await registry.mountBlob(repository, digest, source))
    );
  }

  async function sendLayer(repository: string, { digest, bytes }: LayerBlob): Promise<number> {
    onProgress({ phase: "push", fraction: 0, line: `${repository}: ${formatBytes(bytes)}` });
    const file = await packed.open(digest);
    try {
      const onBytes = (sent: number) =>
        onProgress({
          phase: "push",
          fraction: sent / bytes,
          line: `${repository}: ${formatBytes(sent)} of ${formatBytes(bytes)}`,
        });
      await registry.upload(repository, { digest, bytes, read: reading(file) }, onBytes);
    } finally {
      await file.close();
    }
    return bytes;
  }

  return { send, sent: () => ({ ...count }) };
}

function reading(file: FileHandle): (start: number, end: number) => Readable {
  return (start, end) => Readable.from(readRange(file, start, end), { objectMode: false });
}

/** A stream of Node's own would close the file when it is given up. */
async function* readRange(file: FileHandle, start: number, end: number): AsyncGenerator<Buffer> {
  for (let at = start; at < end; ) {
    const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, end - at));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) throw new ImageError("image_corrupt", "a packed layer is shorter than it was");
    yield buffer.subarray(0, bytesRead);
    at += bytesRead;
  }
}
