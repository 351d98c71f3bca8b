/**
 * Images on this computer:
 *
 *     <directory>/<12 digits of the digest>/{image.json, vmlinux, initramfs.gz, base.squashfs, runner.squashfs}
 *     <directory>/<12 digits>/{published.json, oci.json, oci/}   where it was pushed, and in which form
 *     <directory>/names/<name>            the digest that a name stands for
 *     <directory>/seals/<12 digits>       the sha256 of its image.json, as it was written
 *     <directory>/.build-<process>-<n>/   under construction; never listed, removed when its process is gone
 *
 * The files of an image are immutable. Building a name anew writes another directory and then moves the name.
 */

import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { hashFile } from "../base/durable-file.ts";
import { systemCode } from "../base/errors.ts";
import { readTrusted, requireTrusted, UntrustedError } from "../base/trusted-file.ts";
import { MIB_BYTES } from "../base/units.ts";
import type { BootImage, PublishedImage } from "../domain/images.ts";
import { ImageError, imageMissing } from "./errors.ts";
import {
  filesOf,
  type ImageFile,
  ImageManifest,
  imageDigest,
  MANIFEST_SCHEMA,
  shortDigest,
} from "./manifest.ts";
import {
  createNames,
  createSeals,
  emptyWhenAbsent,
  type Publication,
  readPublications,
} from "./store-records.ts";

const MANIFEST_MAX_BYTES = 4 * MIB_BYTES;

/** An image with what its runner says of itself; fits `ImageSource` of the scheduler. */
export interface ResolvedImage extends BootImage {
  readonly runner: Pick<ImageManifest["runner"], "kind" | "version">;
  readonly runnerInfo: Readonly<Record<string, unknown>>;
  /** The same of jobs in containers; undefined where the image runs none. */
  readonly containerRunnerInfo: Readonly<Record<string, unknown>> | undefined;
  /** What its machines can do; none for an image of before abilities were written down. */
  readonly abilities: readonly string[];
  readonly variant: string;
}

export interface ListedImage {
  readonly directory: string;
  readonly names: readonly string[];
  readonly manifest: ImageManifest;
  readonly bytes: number;
  /** Where it has been pushed, the latest first. */
  readonly publications: readonly Publication[];
}

interface VerifiedImage {
  readonly image: ResolvedImage;
  readonly manifest: ImageManifest;
  readonly checkedBytes: number;
}

export interface ImageStore {
  /**
   * By name or digest. image.json must be the one of that digest; the content is checked against it the first time and whenever a file has
   * changed. Throws `image_missing`, `image_corrupt`, or UntrustedError when others can change what is there.
   */
  resolve(name: string): Promise<ResolvedImage>;
  list(): Promise<ListedImage[]>;
  /** Reads every byte again. Throws `image_missing` or `image_corrupt`. */
  verify(name: string, signal?: AbortSignal): Promise<VerifiedImage>;
  find(name: string): Promise<ListedImage | undefined>;
  setName(name: string, digest: string): Promise<void>;
  /** Remembers the image.json that is there now: from here on another one is not taken for it. */
  seal(digest: string): Promise<void>;
}

export function createImageStore(deps: { readonly directory: string }): ImageStore {
  const root = deps.directory;
  const names = createNames(join(root, "names"));
  const seals = createSeals(join(root, "seals"));
  const checker = createFileChecker();

  async function load(name: string): Promise<{ directory: string; manifest: ImageManifest }> {
    const digest = await names.digestOf(name);
    const directory = join(root, shortDigest(digest));
    const { manifest, text } = await readManifest(name, directory);
    // Twelve digits may be those of two images.
    if (isAnother(manifest, digest)) throw imageMissing(name);
    const problem =
      misnamed(manifest, digest) ??
      ((await seals.isIntact(digest, text)) ? undefined : "was changed after the image was built");
    if (problem) throw corrupt(name, `${join(directory, "image.json")} ${problem}`);
    return { directory, manifest };
  }

  async function resolve(name: string): Promise<ResolvedImage> {
    const { directory, manifest } = await load(name);
    for (const file of filesOf(manifest))
      await checker.checkIfChanged(name, join(directory, file.path), file);
    return await toBootImage(directory, manifest);
  }

  async function verify(name: string, signal?: AbortSignal): Promise<VerifiedImage> {
    const { directory, manifest } = await load(name);
    const files = filesOf(manifest);
    for (const file of files) await checker.check(name, join(directory, file.path), file, signal);
    const checkedBytes = files.reduce((sum, file) => sum + file.bytes, 0);
    return { image: await toBootImage(directory, manifest), manifest, checkedBytes };
  }

  async function list(): Promise<ListedImage[]> {
    const known = await names.all();
    const directories = (await readdir(root).catch(emptyWhenAbsent)).filter((name) =>
      /^[0-9a-f]{12}$/.test(name),
    );
    const images: ListedImage[] = [];
    for (const name of directories.sort()) {
      const directory = join(root, name);
      const read = await readManifest(name, directory).catch(() => undefined);
      if (!read) continue;
      const { manifest } = read;
      images.push({
        directory,
        manifest,
        names: [...known].filter(([, digest]) => digest === manifest.digest).map(([each]) => each),
        bytes: filesOf(manifest).reduce((sum, file) => sum + file.bytes, 0),
        publications: await readPublications(directory),
      });
    }
    return images;
  }

  async function find(name: string): Promise<ListedImage | undefined> {
    return (await list()).find((image) => image.names.includes(name));
  }

  async function seal(digest: string): Promise<void> {
    const { text } = await readManifest(digest, join(root, shortDigest(digest)));
    await seals.set(digest, text);
  }

  return { resolve, list, verify, find, setName: names.set, seal };
}

interface FileChecker {
  check(image: string, path: string, file: ImageFile, signal?: AbortSignal): Promise<void>;
  checkIfChanged(image: string, path: string, file: ImageFile): Promise<void>;
}

function createFileChecker(): FileChecker {
  /** Files already read and found right, by path: size, times of change and inode at that moment. */
  const checked = new Map<string, string>();

  async function check(name: string, path: string, file: ImageFile, signal?: AbortSignal): Promise<void> {
    const found = await hashFile(path, signal).catch((cause) => {
      signal?.throwIfAborted();
      throw corrupt(name, `${path} cannot be read`, cause);
    });
    if (found.bytes !== file.bytes)
      throw corrupt(name, `${path} has ${found.bytes} bytes, not ${file.bytes}`);
    if (found.sha256 !== file.sha256) throw corrupt(name, `${path} is not what image.json says (sha256)`);
  }

  async function checkIfChanged(name: string, path: string, file: ImageFile): Promise<void> {
    const status = await requireTrusted(path).catch((cause) => {
      throw cause instanceof UntrustedError ? cause : corrupt(name, `${path} is gone`, cause);
    });
    const mark = `${file.sha256} ${status.dev} ${status.ino} ${status.size} ${status.mtimeMs} ${status.ctimeMs}`;
    if (checked.get(path) === mark) return;
    await check(name, path, file);
    checked.set(path, mark);
  }

  return { check, checkIfChanged };
}

interface ReadManifest {
  readonly manifest: ImageManifest;
  readonly text: Buffer;
}

async function readManifest(name: string, directory: string): Promise<ReadManifest> {
  const path = join(directory, "image.json");
  const text = await readTrusted(path, { maxBytes: MANIFEST_MAX_BYTES, secret: false }).catch((cause) => {
    if (cause instanceof UntrustedError) throw cause;
    throw systemCode(cause) === "ENOENT"
      ? imageMissing(name, cause)
      : corrupt(name, `${path} cannot be read`, cause);
  });
  let json: unknown;
  try {
    json = JSON.parse(text.toString("utf8"));
  } catch (cause) {
    throw corrupt(name, `${path} is not JSON`, cause);
  }
  const parsed = ImageManifest.safeParse(json);
  if (parsed.success) return { manifest: parsed.data, text };
  const schema = (json as { schema?: unknown } | null)?.schema;
  const detail =
    schema === MANIFEST_SCHEMA
      ? "is damaged"
      : `has schema ${schema}, this FireRunner reads ${MANIFEST_SCHEMA}`;
  throw corrupt(name, `${path} ${detail}`, parsed.error);
}

async function toBootImage(directory: string, manifest: ImageManifest): Promise<ResolvedImage> {
  const { kernel, initramfs, layers } = manifest.files;
  const [latest] = await readPublications(directory);
  return {
    digest: manifest.digest,
    architecture: manifest.architecture,
    kernel: join(directory, kernel.path),
    initramfs: join(directory, initramfs.path),
    layers: layers.map((layer) => join(directory, layer.path)),
    runner: { kind: manifest.runner.kind, version: manifest.runner.version },
    abilities: manifest.abilities,
    variant: manifest.variant,
    runnerInfo: manifest.runner.info,
    containerRunnerInfo: manifest.runner.containerInfo,
    ...(latest ? { published: publishedAs(latest) } : {}),
  };
}

function publishedAs({ kernel, root, registry, plainHttp, ca }: Publication): PublishedImage {
  return { kernel, root, registry, pushed: { plainHttp, ca } };
}

/** Why this cannot be what describes the image of that digest, or of one that begins so; undefined when it can. */
function misnamed({ digest: own, files }: ImageManifest, wanted: string): string | undefined {
  if (imageDigest(files) !== own) return "was changed: its digest is not that of the files it names";
  return hexOf(own).startsWith(hexOf(wanted)) ? undefined : `describes another image, ${own.slice(0, 19)}`;
}

function isAnother({ digest: own }: ImageManifest, wanted: string): boolean {
  return shortDigest(own) === shortDigest(wanted) && !hexOf(own).startsWith(hexOf(wanted));
}

function hexOf(digest: string): string {
  return digest.replace(/^sha256:/, "");
}

function corrupt(name: string, detail: string, cause?: unknown): ImageError {
  return new ImageError("image_corrupt", `the image “${name}” is broken: ${detail}`, {
    ...(cause === undefined ? {} : { cause }),
    hint: `build it again: firerunner image build --force${name === "base" ? "" : ` --name ${name}`}`,
  });
}
