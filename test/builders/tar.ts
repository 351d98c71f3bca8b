import { padding, sealTarHeader, writeTarHeader } from "../../src/image/oci/tar.ts";

export interface TestEntry {
  readonly path: string;
  /** As in tar: `0` file, `1` hard link, `2` symlink, `3` character device, `5` directory; by default a file. */
  readonly type?: string;
  readonly content?: string;
  readonly link?: string;
  readonly device?: readonly [number, number];
  readonly mode?: number;
  readonly owner?: readonly [number, number];
  readonly xattrs?: Readonly<Record<string, string>>;
}

/** A tar archive with extended attributes as GNU tar, mksquashfs and containerd read them. */
export function tarOf(entries: readonly TestEntry[]): Buffer {
  return Buffer.concat([...entries.flatMap(blocksOf), Buffer.alloc(1024)]);
}

function blocksOf(entry: TestEntry): Buffer[] {
  const { path, type = "0", content = "", xattrs } = entry;
  const body = Buffer.from(content);
  const header = writeTarHeader({
    kind: "file",
    path,
    mode: entry.mode ?? 0o644,
    bytes: body.length,
    mtimeS: 1_600_000_000,
  });
  const octal = (value: number) => `${value.toString(8).padStart(7, "0")}\0`;
  header.write(type, 156);
  header.write(entry.link ?? "", 157);
  header.write(octal(entry.owner?.[0] ?? 0) + octal(entry.owner?.[1] ?? 0), 108, "latin1");
  header.write(octal(entry.device?.[0] ?? 0) + octal(entry.device?.[1] ?? 0), 329, "latin1");
  const pax = xattrs ? extended(xattrs) : [];
  return [...pax, sealTarHeader(header), body, padding(body.length)];
}

function extended(xattrs: Readonly<Record<string, string>>): Buffer[] {
  const records = Object.entries(xattrs).map(([name, value]) => record(`SCHILY.xattr.${name}=${value}\n`));
  const body = Buffer.from(records.join(""));
  const header = writeTarHeader({ kind: "file", path: "pax", mode: 0o644, bytes: body.length, mtimeS: 0 });
  header.write("x", 156);
  return [sealTarHeader(header), body, padding(body.length)];
}

/** A record begins with its own length, which counts itself. */
function record(text: string): string {
  let length = text.length + 2;
  while (`${length} ${text}`.length !== length) length += 1;
  return `${length} ${text}`;
}
