/** Writes the archive of which tar2sqfs makes a disk: headers, with a pax header before those that have no room for what is to be said. */
import { BLOCK_BYTES, padding, sealTarHeader } from "../../image/oci/tar.ts";
import type { Attributes, Xattr } from "./entry.ts";

export interface OutEntry extends Attributes {
  readonly kind: "file" | "directory" | "symlink" | "hardlink" | "fifo" | "whiteout";
  /** Names are strings of bytes (latin1), as in entry.ts. */
  readonly path: string;
  readonly target?: string;
  /** Of a file; its content and `padding` come behind. */
  readonly bytes?: number;
}

const types = {
  file: "0",
  hardlink: "1",
  symlink: "2",
  // A character device 0:0 is what overlayfs takes for “not there any more”.
  whiteout: "3",
  directory: "5",
  fifo: "6",
} as const;

/** What old headers have room for. */
const NAME_BYTES = 100;

export function tarHeader(entry: OutEntry): Buffer {
  const { path, target = "", bytes = 0, xattrs } = entry;
  const records = [
    ...(path.length > NAME_BYTES ? [record("path", path)] : []),
    ...(target.length > NAME_BYTES ? [record("linkpath", target)] : []),
    ...xattrs.map(xattrRecord),
  ];
  const own = block({ ...entry, target, bytes }, types[entry.kind]);
  if (records.length === 0) return own;
  const body = Buffer.concat(records);
  const plain = { ...entry, path: "pax", target: "", uid: 0, gid: 0, mtimeS: 0, mode: 0o644 };
  return Buffer.concat([block({ ...plain, bytes: body.length }, "x"), body, padding(body.length), own]);
}

/** A whole file of ours: of root, and of no time. */
export function tarFile(path: string, content: Buffer): Buffer {
  const entry = { kind: "file", path, bytes: content.length, ...plainFile } as const;
  return Buffer.concat([tarHeader(entry), content, padding(content.length)]);
}

const plainFile = { mode: 0o600, uid: 0, gid: 0, mtimeS: 0, xattrs: [] } as const;

export function tarDirectory(path: string, mode = 0o755): Buffer {
  return tarHeader({ ...plainFile, kind: "directory", path, mode });
}

export function tarSymlink(path: string, target: string): Buffer {
  return tarHeader({ ...plainFile, kind: "symlink", path, target, mode: 0o777 });
}

/** The two blocks at the end. */
export const tarEnd: Buffer = Buffer.alloc(2 * BLOCK_BYTES);

function block(
  { path, target, mode, uid, gid, bytes, mtimeS }: Required<Omit<OutEntry, "kind" | "xattrs">>,
  type: string,
): Buffer {
  const header = Buffer.alloc(BLOCK_BYTES);
  header.write(path.slice(0, NAME_BYTES), 0, "latin1");
  writeNumber(header, 100, 8, mode);
  writeNumber(header, 108, 8, uid);
  writeNumber(header, 116, 8, gid);
  writeNumber(header, 124, 12, bytes);
  writeNumber(header, 136, 12, mtimeS);
  header.write(type, 156, "latin1");
  header.write(target.slice(0, NAME_BYTES), 157, "latin1");
  header.write("ustar\u000000", 257, "latin1");
  return sealTarHeader(header);
}

/** Octal, or binary where that has no room. */
function writeNumber(header: Buffer, start: number, length: number, value: number): void {
  const digits = value.toString(8);
  if (digits.length < length) {
    header.write(`${digits.padStart(length - 1, "0")}\0`, start, "latin1");
    return;
  }
  header.writeBigUInt64BE(BigInt(value), start + length - 8);
  header[start] = (header[start] ?? 0) | 0x80;
}

function xattrRecord({ name, value }: Xattr): Buffer {
  return record(`SCHILY.xattr.${name}`, value);
}

/** The length counts its own digits. */
function record(key: string, value: string | Buffer): Buffer {
  const body = Buffer.concat([
    Buffer.from(` ${key}=`, "latin1"),
    Buffer.from(value as string, "latin1"),
    Buffer.from("\n"),
  ]);
  let length = body.length + 1;
  while (String(length).length + body.length !== length) length = String(length).length + body.length;
  return Buffer.concat([Buffer.from(String(length)), body]);
}
