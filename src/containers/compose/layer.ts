/**
 * One layer on its way into a disk, read twice: first to learn what it leaves behind and whether it is the one that the image names, then to
 * pass the content of what stays on. `compose.ts` puts layers together.
 */
import { createHash } from "node:crypto";
import { padding } from "../../image/oci/tar.ts";
import { type Crc64, createCrc64 } from "./crc64.ts";
import type { Attributes, ScannedEntry } from "./entry.ts";
import { type Archive, type Compression, compressionOf, openArchive } from "./layer-stream.ts";
import { LayerTree, type TreeLimits, type TreeNode } from "./layer-tree.ts";
import { LayerRefusal } from "./refusal.ts";
import { TarScanner, type TarSink } from "./tar-scan.ts";
import { createTarSplit, type TarSplit } from "./tar-split.ts";
import { tarHeader } from "./tar-write.ts";

export interface LayerBlob {
  readonly path: string;
  /** `sha256:…` of the blob, and its size. */
  readonly digest: string;
  readonly bytes: number;
  /** `sha256:…` of the archive in it. */
  readonly diffId: string;
}

export interface LayerLimits extends TreeLimits {
  /** Of the archive. */
  readonly unpackedBytes: number;
  /** How many times as large as its blob an archive may be, once it is larger than `ratioFromBytes`. */
  readonly ratio: number;
  readonly ratioFromBytes: number;
}

export interface Emitted {
  readonly compression: Compression;
  readonly unpackedBytes: number;
  readonly tarSplit: Buffer;
  readonly root: Attributes;
  readonly uids: readonly number[];
  readonly gids: readonly number[];
}

/** Takes what is written, and resolves when it needs these bytes no more. */
export type Write = (pieces: readonly Buffer[]) => Promise<void>;

/** Throws LayerRefusal. `lower` is the root directory of the layer below, which a layer without one of its own takes over. */
export async function emitLayer(
  blob: LayerBlob,
  { prefix, lower, limits, write, spool }: EmitOptions,
): Promise<Emitted> {
  const compression = await compressionOf(blob.path);
  await using archive = await openArchive(blob.path, compression, spool);
  const { tree, unpackedBytes, uids, gids } = await surveyLayer(blob, archive, limits);
  const root = await emitNodes(tree, { prefix, lower, write });
  const split = createTarSplit(limits.heldBytes);
  const pieces: Buffer[] = [];
  const scanner = new TarScanner(contentSink(tree, prefix, { pieces, split }));
  for await (const chunk of archive.again()) {
    scanner.write(chunk);
    await write(pieces.splice(0));
  }
  scanner.end();
  return { compression, unpackedBytes, tarSplit: split.end(), root, uids, gids };
}

interface EmitOptions {
  /** Ends with a slash. */
  readonly prefix: string;
  readonly lower: Attributes;
  readonly limits: LayerLimits;
  readonly write: Write;
  /** A file that may be made for as long as this takes. */
  readonly spool: string;
}

interface Survey {
  readonly tree: LayerTree;
  readonly unpackedBytes: number;
  readonly uids: readonly number[];
  readonly gids: readonly number[];
}

async function surveyLayer(blob: LayerBlob, archive: Archive, limits: LayerLimits): Promise<Survey> {
  const tree = new LayerTree(limits);
  const hash = createHash("sha256");
  const [uids, gids] = [new Set<number>(), new Set<number>()];
  const ignore = () => {};
  const entry = (each: ScannedEntry) => {
    tree.add(each);
    uids.add(each.uid);
    gids.add(each.gid);
  };
  const scanner = new TarScanner({ entry, body: ignore, raw: ignore });
  let unpackedBytes = 0;
  for await (const chunk of archive.first()) {
    unpackedBytes += chunk.length;
    requireMeasure(unpackedBytes, blob, limits);
    hash.update(chunk);
    scanner.write(chunk);
  }
  scanner.end();
  const found = `sha256:${hash.digest("hex")}`;
  if (found !== blob.diffId) throw new LayerRefusal(`it holds ${found}, where the image says ${blob.diffId}`);
  return { tree, unpackedBytes, uids: ascending(uids), gids: ascending(gids) };
}

function requireMeasure(bytes: number, blob: LayerBlob, limits: LayerLimits): void {
  if (bytes > limits.unpackedBytes)
    throw new LayerRefusal(`it is larger than the ${limits.unpackedBytes} bytes that are left for it`);
  if (bytes > limits.ratioFromBytes && bytes > limits.ratio * blob.bytes)
    throw new LayerRefusal(`it grows to more than ${limits.ratio} times its size`);
}

function ascending(numbers: ReadonlySet<number>): number[] {
  return [...numbers].toSorted((a, b) => a - b);
}

const PIECES = 256;
/** Of directories of which only what is in them tells. */
const implied: Attributes = { mode: 0o755, uid: 0, gid: 0, mtimeS: 0, xattrs: [] };
const opaque = { name: "trusted.overlay.opaque", value: Buffer.from("y") };

/** All but files. Answers the attributes of the root. */
async function emitNodes(
  tree: LayerTree,
  { prefix, lower, write }: Omit<EmitOptions, "limits" | "spool">,
): Promise<Attributes> {
  const pieces: Buffer[] = [];
  let root = lower;
  for (const node of tree.nodes()) {
    const isRoot = node.path === "";
    const path = isRoot ? prefix.slice(0, -1) : `${prefix}${node.path}`;
    const own = node.attributes ?? (isRoot ? lower : implied);
    if (isRoot) root = own;
    pieces.push(headerOf(node, path, own));
    if (pieces.length >= PIECES) await write(pieces.splice(0));
  }
  await write(pieces);
  return root;
}

function headerOf(node: TreeNode, path: string, own: Attributes): Buffer {
  if (node.kind === "directory")
    return tarHeader({ ...withOpaque(own, node.isOpaque), kind: node.kind, path });
  if (node.kind === "whiteout") return tarHeader({ ...own, mode: 0, xattrs: [], kind: node.kind, path });
  return tarHeader({ ...own, ...node, path });
}

function withOpaque(attributes: Attributes, isOpaque: boolean): Attributes {
  return isOpaque ? { ...attributes, xattrs: [...attributes.xattrs, opaque] } : attributes;
}

interface ContentOut {
  readonly pieces: Buffer[];
  readonly split: TarSplit;
}

/**
 * Passes files on, each under the first of its names, the others as hard links behind it. Content that nothing in the layer shows any
 * more is kept in the tar-split alone, for whoever sends the layer on.
 */
function contentSink(tree: LayerTree, prefix: string, { pieces, split }: ContentOut): TarSink {
  let file: { readonly entry: ScannedEntry; readonly names: readonly string[] } | undefined;
  let crc: Crc64 = createCrc64();
  let left = 0;

  function finish(): void {
    if (file === undefined) return;
    const { entry, names } = file;
    const [name = "", ...links] = names;
    if (entry.bytes > 0) split.file(name, entry.bytes, crc.digest());
    pieces.push(padding(entry.bytes));
    const target = `${prefix}${name}`;
    for (const link of links)
      pieces.push(
        tarHeader({ ...entry, xattrs: [], kind: "hardlink", path: `${prefix}${link}`, target, bytes: 0 }),
      );
    file = undefined;
  }

  return {
    entry(entry) {
      const names = entry.kind === "file" ? tree.namesOf(entry.index) : [];
      const [name] = names;
      if (name === undefined) return;
      file = { entry, names };
      left = entry.bytes;
      crc = createCrc64();
      pieces.push(tarHeader({ ...entry, kind: "file", path: `${prefix}${name}`, target: "" }));
      if (left === 0) finish();
    },
    body(bytes) {
      if (file === undefined) {
        split.raw(bytes);
        return;
      }
      crc.update(bytes);
      pieces.push(bytes);
      left -= bytes.length;
      if (left === 0) finish();
    },
    raw: split.raw,
  };
}
