/** Headers of tar archives (POSIX ustar, with what GNU adds): what is needed to write a few entries and to walk through many. */
export const BLOCK_BYTES = 512;

export type TarKind = "file" | "directory";

export interface TarEntry {
  readonly kind: TarKind;
  /** At most 100 bytes: the writer here knows no long names. */
  readonly path: string;
  readonly mode: number;
  readonly bytes: number;
  readonly mtimeS: number;
}

/** The header of an entry that belongs to root. */
export function writeTarHeader({ kind, path, mode, bytes, mtimeS }: TarEntry): Buffer {
  const header = Buffer.alloc(BLOCK_BYTES);
  if (Buffer.byteLength(path) > 100) throw new RangeError(`${path} is too long for a plain tar header`);
  header.write(path, 0);
  writeOctal(header, 100, 8, mode);
  writeOctal(header, 108, 8, 0);
  writeOctal(header, 116, 8, 0);
  writeOctal(header, 124, 12, bytes);
  writeOctal(header, 136, 12, mtimeS);
  header.write(kind === "directory" ? "5" : "0", 156);
  header.write("ustar\u000000", 257, "latin1");
  return sealTarHeader(header);
}

/** A GNU entry that gives the entry after it a name of any length. */
export function writeLongName(path: string): Buffer {
  const text = Buffer.from(`${path}\0`);
  const header = writeTarHeader({
    kind: "file",
    path: "././@LongLink",
    mode: 0,
    bytes: text.length,
    mtimeS: 0,
  });
  header.write("L", 156);
  return Buffer.concat([sealTarHeader(header), text, padding(text.length)]);
}

/** The zeroes after a body that does not fill its last block. */
export function padding(bytes: number): Buffer {
  return Buffer.alloc((BLOCK_BYTES - (bytes % BLOCK_BYTES)) % BLOCK_BYTES);
}

/** Writes the checksum, which counts itself as eight spaces. */
export function sealTarHeader(header: Buffer): Buffer {
  header.fill(" ", 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return header;
}

export interface TarHeader {
  readonly type: string;
  readonly path: string;
  readonly bytes: number;
  readonly device: { readonly major: number; readonly minor: number };
}

/** Undefined for a block of zeroes: the end of the archive. */
export function readTarHeader(block: Buffer): TarHeader | undefined {
  if (block[0] === 0 && block.every((byte) => byte === 0)) return undefined;
  const isPosix = block.toString("latin1", 257, 263) === "ustar\0";
  const prefix = isPosix ? text(block, 345, 155) : "";
  const name = text(block, 0, 100);
  return {
    type: String.fromCharCode(block[156] || 0x30),
    path: prefix === "" ? name : `${prefix}/${name}`,
    bytes: readNumber(block, 124, 12),
    device: { major: readNumber(block, 329, 8), minor: readNumber(block, 337, 8) },
  };
}

export function writeSize(header: Buffer, bytes: number): void {
  writeOctal(header, 124, 12, bytes);
}

/** Octal digits, or binary with the highest bit set where octal has no room. */
function readNumber(block: Buffer, start: number, length: number): number {
  if (((block[start] ?? 0) & 0x80) === 0) return Number.parseInt(text(block, start, length).trim() || "0", 8);
  const digits = Buffer.from(block.subarray(start, start + length));
  digits[0] = (digits[0] ?? 0) & 0x7f;
  return Number(BigInt(`0x${digits.toString("hex")}`));
}

function text(block: Buffer, start: number, length: number): string {
  const field = block.subarray(start, start + length);
  const end = field.indexOf(0);
  return field.toString("utf8", 0, end < 0 ? length : end);
}

function writeOctal(header: Buffer, start: number, length: number, value: number): void {
  const digits = value.toString(8);
  if (digits.length >= length) throw new RangeError(`${value} does not fit into a tar header`);
  header.write(`${digits.padStart(length - 1, "0")}\0`, start, "latin1");
}
