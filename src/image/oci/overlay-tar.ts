/**
 * Layers of an image lie over each other by the rules of overlayfs: a character device 0/0 hides a name of the layers below, and
 * an extended attribute makes a directory opaque. OCI layers say the same with files of reserved names. This turns the one
 * into the other while the archive streams by.
 */
import { ImageError } from "../errors.ts";
import {
  BLOCK_BYTES,
  type ByteReader,
  bodyBytes,
  createByteReader,
  padding,
  parsePax,
  readTarHeader,
  sealTarHeader,
  type TarHeader,
  writeLongName,
  writeSize,
  writeTarHeader,
} from "./tar.ts";

const OVERLAY_ATTRIBUTE = /^SCHILY\.xattr\.(?:trusted|user)\.overlay\.(.+)$/;
/** Attributes with which overlayfs keeps its own books; they mean nothing elsewhere. */
const BOOKKEEPING = new Set(["opaque", "origin", "impure", "nlink", "uuid"]);
/** Entries, and headers in front of entries: extended attributes, a long target of a link, a long name. */
const KNOWN_KINDS = "01234567";
const META_KINDS = "xKL";
/** Long names and extended attributes of one entry; more than any real one has. */
const META_BYTES_MAX = 1 << 20;

/** One entry: the headers that say more about it, and its own. Its body is not read yet. */
interface Entry {
  readonly meta: readonly Buffer[];
  readonly block: Buffer;
  readonly header: TarHeader;
  readonly path: string;
  readonly overlay: ReadonlyMap<string, string>;
}

export async function* toOciLayer(tar: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  const reader = createByteReader(tar);
  for (;;) {
    const entry = await readEntry(reader);
    if (Buffer.isBuffer(entry)) {
      yield entry;
      yield* reader.rest();
      return;
    }
    yield* translate(entry);
    // Only these have a body; in others the size, if any, is that of what they point to.
    if ("07".includes(entry.header.type)) yield* reader.pass(bodyBytes(entry.header.bytes));
  }
}

function* translate({ meta, block, header, path, overlay }: Entry): Generator<Buffer> {
  if (header.type === "3" && header.device.major === 0 && header.device.minor === 0) {
    const [folder, name] = split(path);
    yield* marker(`${folder}.wh.${name}`, block);
    return;
  }
  const unknown = [...overlay.keys()].find((name) => !BOOKKEEPING.has(name));
  if (unknown !== undefined)
    throw new ImageError("image_build_failed", `${path} has the overlay attribute “${unknown}”`, {
      hint: "an OCI layer cannot say this; make the layer without redirect_dir and metacopy",
    });
  yield* meta;
  yield block;
  if (overlay.get("opaque") === "y") yield* marker(`${path.replace(/\/$/, "")}/.wh..wh..opq`, block);
}

/** An empty file as old as what it stands for. */
function* marker(path: string, model: Buffer): Generator<Buffer> {
  if (Buffer.byteLength(path) > 100) yield writeLongName(path);
  const short = Buffer.from(path).subarray(0, 100).toString("latin1");
  const header = writeTarHeader({ kind: "file", path: "", mode: 0o644, bytes: 0, mtimeS: 0 });
  header.write(short, 0, "latin1");
  model.copy(header, 136, 136, 148);
  yield sealTarHeader(header);
}

function split(path: string): [string, string] {
  const slash = path.lastIndexOf("/") + 1;
  return [path.slice(0, slash), path.slice(slash)];
}

/** The next entry, or the block that ends the archive. */
async function readEntry(reader: ByteReader): Promise<Entry | Buffer> {
  const about: About = { meta: [], overlay: new Map(), path: undefined };
  for (let metaBytes = 0; ; ) {
    const block = await reader.take(BLOCK_BYTES);
    if (block === undefined) throw new ImageError("image_corrupt", "a layer's archive has no end");
    const header = readTarHeader(block);
    if (header === undefined) return block;
    if (KNOWN_KINDS.includes(header.type))
      return { block, header, ...about, path: about.path ?? header.path };
    metaBytes += header.bytes;
    if (!META_KINDS.includes(header.type) || metaBytes > META_BYTES_MAX)
      throw new ImageError("image_build_failed", `a layer has an entry of an unknown kind (${header.type})`);
    const body = (await reader.take(bodyBytes(header.bytes))) ?? Buffer.alloc(0);
    readMeta(about, header, block, body);
  }
}

/** What the headers in front of an entry say of it. */
interface About {
  readonly meta: Buffer[];
  readonly overlay: Map<string, string>;
  path: string | undefined;
}

function readMeta(about: About, header: TarHeader, block: Buffer, body: Buffer): void {
  const content = body.subarray(0, header.bytes);
  if (header.type === "x") {
    const { kept, path } = readExtended(block, content, about.overlay);
    about.meta.push(...kept);
    about.path = path ?? about.path;
    return;
  }
  about.meta.push(block, body);
  if (header.type === "L") about.path = content.toString("utf8").replace(/\0.*$/s, "");
}

/** The extended header without overlayfs's own attributes, which go to `overlay`; and the name it gives, if it does. */
function readExtended(block: Buffer, content: Buffer, overlay: Map<string, string>) {
  const kept: Buffer[] = [];
  let path: string | undefined;
  for (const { key, value, raw } of parsePax(content)) {
    const name = OVERLAY_ATTRIBUTE.exec(key)?.[1];
    if (name === undefined) kept.push(raw);
    else overlay.set(name, value.toString("latin1"));
    if (key === "path") path = value.toString("utf8");
  }
  if (kept.length === 0) return { kept, path };
  const body = Buffer.concat(kept);
  const header = Buffer.from(block);
  writeSize(header, body.length);
  return { kept: [sealTarHeader(header), body, padding(body.length)], path };
}
