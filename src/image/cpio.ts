/**
 * Writes the cpio archive ("newc") that the Linux kernel unpacks as its initramfs. The same entries always give the same
 * bytes: no times, owners or inode numbers of the build host get in.
 */

export type CpioEntry =
  | { readonly kind: "directory"; readonly path: string; readonly mode?: number }
  | { readonly kind: "file"; readonly path: string; readonly mode?: number; readonly bytes: Uint8Array }
  | { readonly kind: "symlink"; readonly path: string; readonly target: string }
  | {
      readonly kind: "character-device";
      readonly path: string;
      readonly mode?: number;
      readonly major: number;
      readonly minor: number;
    };

const TYPE_BITS = {
  directory: 0o040000,
  file: 0o100000,
  symlink: 0o120000,
  "character-device": 0o020000,
} as const;

const DEFAULT_PERMISSIONS = {
  directory: 0o755,
  file: 0o644,
  symlink: 0o777,
  "character-device": 0o600,
} as const;

/** Paths are relative to the root (`bin/sh`); a parent must come before what it holds. */
export function writeCpio(entries: readonly CpioEntry[]): Buffer {
  const parts = entries.flatMap((entry, index) => record(entry, index + 1));
  return Buffer.concat([...parts, ...trailer()]);
}

function record(entry: CpioEntry, inode: number): Buffer[] {
  const permissions =
    "mode" in entry && entry.mode !== undefined ? entry.mode : DEFAULT_PERMISSIONS[entry.kind];
  const device = entry.kind === "character-device" ? entry : { major: 0, minor: 0 };
  const fields = {
    inode,
    mode: TYPE_BITS[entry.kind] | permissions,
    links: entry.kind === "directory" ? 2 : 1,
    major: device.major,
    minor: device.minor,
  };
  return withHeader(entry.path, contentOf(entry), fields);
}

function contentOf(entry: CpioEntry): Uint8Array {
  if (entry.kind === "file") return entry.bytes;
  if (entry.kind === "symlink") return Buffer.from(entry.target);
  return new Uint8Array(0);
}

function trailer(): Buffer[] {
  return withHeader("TRAILER!!!", new Uint8Array(0), { inode: 0, mode: 0, links: 1, major: 0, minor: 0 });
}

function withHeader(
  path: string,
  content: Uint8Array,
  fields: { inode: number; mode: number; links: number; major: number; minor: number },
): Buffer[] {
  const name = Buffer.from(`${path}\0`);
  // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
  const numbers = [
    ...[fields.inode, fields.mode, 0, 0, fields.links, 0, content.length],
    ...[0, 0, fields.major, fields.minor, name.length, 0],
  ];
  const header = Buffer.from(
    `070701${numbers.map((number) => number.toString(16).padStart(8, "0")).join("")}`,
  );
  return [
    header,
    name,
    padding(header.length + name.length),
    Buffer.from(content.buffer, content.byteOffset, content.length),
    padding(content.length),
  ];
}

function padding(length: number): Buffer {
  return Buffer.alloc((4 - (length % 4)) % 4);
}
