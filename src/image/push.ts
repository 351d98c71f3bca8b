/**
 * Pushes an image as the two OCI images that hosts of a fleet pull, `NAME/kernel` and `NAME/root`, and remembers where. What the
 * registry has is not sent again, and a layer that need not be sent is not compressed again either.
 */

import type { FileHandle } from "node:fs/promises";
import { Readable } from "node:stream";
import type { Clock } from "../base/clock.ts";
import type { ProxyRoutes } from "../base/proxy/routes.ts";
import { formatBytes } from "../base/units.ts";
import type { PublishedImage } from "../domain/images.ts";
import { createRegistryClient, type OciDocument, type RegistryClient } from "../registry/client.ts";
import { findCredentials } from "../registry/credentials.ts";
import type { PushTarget } from "../registry/reference.ts";
import { createTransport } from "../registry/session.ts";
import { requireSpace, requireTools } from "./build-directory.ts";
import { ImageError, imageMissing } from "./errors.ts";
import { shortDigest } from "./manifest.ts";
import { configOf, type LayerBlob, manifestOf } from "./oci/documents.ts";
import { createPackedImage, type PackedImage, readPackedLayers } from "./oci/packed-image.ts";
import type { OnProgress } from "./progress.ts";
import { createImageStore, type ImageStore, type ListedImage } from "./store.ts";
import { remember } from "./store-records.ts";

export interface PushOptions {
  readonly directory: string;
  /** Name or digest of the image. */
  readonly image: string;
  readonly target: PushTarget;
  /** How hosts call the registry, where that is not what it is called here. */
  readonly pullFrom?: string | undefined;
  readonly plainHttp?: boolean | undefined;
  /** PEM of authorities to trust. */
  readonly ca?: string | undefined;
  /** Through which proxies registries are reached; by default through none. */
  readonly proxies?: ProxyRoutes;
  /** docker's config.json, with logins. */
  readonly dockerConfig: string;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  readonly chunkBytes?: number;
}

export interface PushedImage {
  readonly digest: string;
  readonly published: PublishedImage;
  readonly tags: readonly string[];
  readonly sent: SentBlobs;
}

export async function pushImage(options: PushOptions, onProgress: OnProgress): Promise<PushedImage> {
  const { target, signal, clock } = options;
  const store = createImageStore({ directory: options.directory });
  const image = await soundImage(store, options.image);
  const { digest } = image.manifest;
  const names = { kernel: `${target.name}/kernel`, root: `${target.name}/root` };
  const credentials = once(() => findCredentials(target.registry, options.dockerConfig, signal));
  const transport = createTransport({ ...options, registry: target.registry });
  const registry = createRegistryClient({ ...options, transport, credentials });
  try {
    onProgress({ phase: "check", line: `Looking at ${target.registry}` });
    await registry.check(Object.values(names));
    const packed = createPackedImage(image, signal);
    const layers = await pack(packed, image, onProgress);
    const sources = await blobSources(store, target.registry);
    const sender = createSender({ registry, packed, sources, onProgress });
    const tags = [shortDigest(digest), target.tag ?? "latest"];
    const push = async (repository: string, of: readonly LayerBlob[]) => {
      const config = configOf(of, image.manifest.architecture);
      const manifest = manifestOf(of, config);
      await sender.send(repository, of, config);
      await putManifest(registry, repository, manifest, tags);
      return `${options.pullFrom ?? target.registry}/${repository}@${manifest.digest}`;
    };
    const kernel = await push(names.kernel, layers.kernel);
    const root = await push(names.root, layers.root);
    const published = { kernel, root };
    await remember(image.directory, {
      registry: target.registry,
      name: target.name,
      tags,
      ...published,
      pushedAt: clock.now(),
      ...(options.plainHttp === undefined ? {} : { plainHttp: options.plainHttp }),
      ...(options.ca === undefined ? {} : { ca: options.ca }),
    });
    await packed.clear();
    onProgress({ phase: "done", fraction: 1, line: `Pushed ${root}` });
    return { digest, published, tags, sent: sender.sent() };
  } finally {
    await registry.close();
  }
}

/** The image with its directory. A broken one is never spread. */
async function soundImage(store: ImageStore, name: string): Promise<ListedImage> {
  const { digest } = await store.resolve(name);
  const found = (await store.list()).find(({ manifest }) => manifest.digest === digest);
  if (!found) throw imageMissing(name);
  return found;
}

async function pack(packed: PackedImage, image: ListedImage, onProgress: OnProgress) {
  if (!(await readPackedLayers(image.directory))) {
    const doing = "packing an image for a registry";
    await requireTools(doing, { sqfs2tar: "squashfs-tools-ng" });
    // Layers get no bigger than they are as file systems; the kernel gets much smaller.
    await requireSpace(image.directory, image.bytes, doing);
  }
  return await packed.layers((number, of) =>
    onProgress({ phase: "pack", fraction: (number - 1) / of, line: `Packing layer ${number} of ${of}` }),
  );
}

/** By its digest first, which never changes, then by the tags that may have stood for something else. */
async function putManifest(
  registry: RegistryClient,
  repository: string,
  manifest: OciDocument,
  tags: readonly string[],
): Promise<void> {
  for (const reference of [manifest.digest, ...tags]) {
    if ((await registry.manifestDigest(repository, reference)) === manifest.digest) continue;
    await registry.putManifest(repository, reference, manifest);
  }
}

/** Which repository of this registry has a blob already, by what has been pushed from here: images have layers in common. */
async function blobSources(store: ImageStore, registry: string): Promise<ReadonlyMap<string, string>> {
  const sources = new Map<string, string>();
  for (const { directory, publications } of await store.list()) {
    const { kernel = [], root = [] } = (await readPackedLayers(directory)) ?? {};
    for (const { name } of publications.filter((each) => each.registry === registry)) {
      for (const { digest } of kernel) sources.set(digest, `${name}/kernel`);
      for (const { digest } of root) sources.set(digest, `${name}/root`);
    }
  }
  return sources;
}

function once<T>(find: () => Promise<T>): () => Promise<T> {
  let found: Promise<T> | undefined;
  return () => (found ??= find());
}

const READ_BYTES = 256 * 1024;

/** What became of the blobs of a push. */
interface SentBlobs {
  readonly blobs: number;
  readonly bytes: number;
  /** Were there already, or were taken over from another repository of the registry. */
  readonly present: number;
}

interface Sender {
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

function createSender({ registry, packed, sources, onProgress }: Deps): Sender {
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
