/**
 * The files around the layers of a store that containers-storage reads as an additional, read-only one (podman 4.3 and later): which images
 * and layers there are, and in which order layers lie. docs/containers.md shows the directories.
 */
import { createHash } from "node:crypto";
import type { Emitted, LayerBlob } from "./layer.ts";
import { tarDirectory, tarFile, tarSymlink } from "./tar-write.ts";

/** A document of the image as the registry sent it. */
export interface ImageDocument {
  readonly digest: string;
  readonly body: Buffer;
}

export interface StoredImage {
  /** In full, such as `docker.io/library/node:24`. */
  readonly names: readonly string[];
  readonly manifest: ImageDocument;
  /** The index from which the manifest was chosen, if there was one: the image is known by its digest, too. */
  readonly index?: ImageDocument | undefined;
  readonly config: ImageDocument;
}

export interface PlacedLayer {
  readonly id: string;
  readonly parent: string | undefined;
  /** 26 capitals and digits. */
  readonly link: string;
}

/** The lowest first. The same layer upon others is another layer. */
export function placeLayers(layers: readonly LayerBlob[]): PlacedLayer[] {
  const placed: PlacedLayer[] = [];
  for (const { diffId } of layers) {
    const parent = placed.at(-1)?.id;
    const own = hexOf(diffId);
    const id = parent === undefined ? own : sha256Hex(`${parent}+${own}`);
    placed.push({ id, parent, link: linkOf(id) });
  }
  return placed;
}

export function storeBeginning(image: StoredImage): Buffer[] {
  const own = `overlay-images/${hexOf(image.config.digest)}`;
  return ["overlay", "overlay/l", "overlay-layers", "overlay-images", own].map((path) => tarDirectory(path));
}

/** What stands beside the content of a layer; `below` is all that lies below it, the nearest first. */
export function layerBeginning({ id, link }: PlacedLayer, below: readonly PlacedLayer[]): Buffer[] {
  const at = `overlay/${id}`;
  const lower = below.map((each) => `l/${each.link}`).join(":");
  return [
    tarDirectory(at, 0o700),
    tarFile(`${at}/link`, Buffer.from(link)),
    ...(below.length === 0
      ? [tarDirectory(`${at}/empty`, 0o700)]
      : [tarFile(`${at}/lower`, Buffer.from(lower))]),
    tarDirectory(`${at}/work`, 0o700),
    tarDirectory(`${at}/merged`, 0o700),
    tarSymlink(`overlay/l/${link}`, `../${id}/diff`),
  ];
}

/** Behind its content. */
export function layerEnd({ id }: PlacedLayer, { tarSplit }: Emitted): Buffer {
  return tarFile(`overlay-layers/${id}.tar-split.gz`, tarSplit);
}

export function storeEnd(
  image: StoredImage,
  layers: readonly (PlacedLayer & { readonly blob: LayerBlob; readonly emitted: Emitted })[],
): Buffer[] {
  const id = hexOf(image.config.digest);
  const created = createdOf(image.config.body);
  const records = layers.map(({ id: layer, parent, blob, emitted }) => ({
    id: layer,
    ...(parent === undefined ? {} : { parent }),
    created,
    "compressed-diff-digest": blob.digest,
    "compressed-size": blob.bytes,
    "diff-digest": blob.diffId,
    "diff-size": emitted.unpackedBytes,
    compression: emitted.compression,
    uidset: emitted.uids,
    gidset: emitted.gids,
  }));
  const documents = documentsOf(image);
  const images = [
    {
      id,
      digest: image.manifest.digest,
      names: image.names,
      layer: layers.at(-1)?.id,
      metadata: "{}",
      "big-data-names": documents.map(({ key }) => key),
      "big-data-sizes": Object.fromEntries(documents.map(({ key, body }) => [key, body.length])),
      "big-data-digests": Object.fromEntries(documents.map(({ key, digest }) => [key, digest])),
      created,
    },
  ];
  return [
    // Without the locks podman refuses its whole list of stores.
    tarFile("overlay-layers/layers.lock", Buffer.alloc(0)),
    tarFile("overlay-layers/layers.json", json(records)),
    tarFile("overlay-images/images.lock", Buffer.alloc(0)),
    tarFile("overlay-images/images.json", json(images)),
    ...documents.map(({ key, body }) => tarFile(`overlay-images/${id}/${fileNameOf(key)}`, body)),
  ];
}

function documentsOf({ config, manifest, index }: StoredImage) {
  const byDigest = [manifest, ...(index ? [index] : [])];
  return [
    { key: config.digest, ...config },
    ...byDigest.map((each) => ({ key: `manifest-${each.digest}`, ...each })),
    { key: "manifest", ...manifest },
  ];
}

/** As containers-storage names them: plain where the key has but dots, digits and small letters. */
function fileNameOf(key: string): string {
  return /^[.0-9a-z]*$/.test(key) ? key : `=${Buffer.from(key).toString("base64")}`;
}

const NO_TIME = "1970-01-01T00:00:00Z";

function createdOf(config: Buffer): string {
  const { created } = JSON.parse(config.toString("utf8")) as { created?: unknown };
  const time = typeof created === "string" ? Date.parse(created) : Number.NaN;
  return Number.isNaN(time) ? NO_TIME : new Date(time).toISOString();
}

const LINK_CHARACTERS = 26;

function linkOf(id: string): string {
  const digits = BigInt(`0x${sha256Hex(`link ${id}`)}`)
    .toString(32)
    .toUpperCase();
  return digits.padStart(LINK_CHARACTERS, "0").slice(-LINK_CHARACTERS);
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

function hexOf(digest: string): string {
  return digest.replace(/^sha256:/, "");
}

function sha256Hex(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
