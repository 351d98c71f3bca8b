/**
 * Tar archives (POSIX ustar, with what GNU adds): headers, the records of pax, and a reader of streams; as much as is needed to write a
 * few entries and to walk through many.
 */
import { ImageError } from "../errors.ts";

export const BLOCK_BYTES = 512;

export type TarKind = "file" | "directory";

interface TarEntry {
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
  let sum = 0;
  for (const byte of header) sum += byte;
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

/** The records of a pax extended header: `<length of the record> <key>=<value>\n`; a value may hold any byte. */
interface PaxRecord {
  readonly key: string;
  readonly value: Buffer;
  /** The record as it stands in the archive. */
  readonly raw: Buffer;
}

export function parsePax(body: Buffer): PaxRecord[] {
  const records: PaxRecord[] = [];
  for (let at = 0; at < body.length && body[at] !== 0; ) {
    const space = body.indexOf(0x20, at);
    const bytes = Number(body.toString("latin1", at, space));
    const equals = body.indexOf(0x3d, space);
    if (!(bytes > 0) || equals < 0 || at + bytes > body.length)
      throw new RangeError("a pax header is damaged");
    records.push({
      key: body.toString("utf8", space + 1, equals),
      value: body.subarray(equals + 1, at + bytes - 1),
      raw: body.subarray(at, at + bytes),
    });
    at += bytes;
  }
  return records;
}

/** Takes a stream of bytes apart without ever holding more than one chunk and what was asked for. */
export interface ByteReader {
  /** Exactly so many bytes, or undefined at the end of the stream. Throws when it ends in the middle. */
  take(bytes: number): Promise<Buffer | undefined>;
  /** The next so many bytes, in the pieces in which they come. */
  pass(bytes: number): AsyncGenerator<Buffer>;
  /** All that is left. */
  rest(): AsyncGenerator<Buffer>;
}

export function createByteReader(source: AsyncIterable<Uint8Array>): ByteReader {
  const chunks = source[Symbol.asyncIterator]();
  let held: Buffer = Buffer.alloc(0);

  /** False at the end. */
  async function fill(): Promise<boolean> {
    while (held.length === 0) {
      const next = await chunks.next();
      if (next.done) return false;
      held = Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength);
    }
    return true;
  }

  function cut(bytes: number): Buffer {
    const piece = held.subarray(0, bytes);
    held = held.subarray(piece.length);
    return piece;
  }

  async function* pass(bytes: number): AsyncGenerator<Buffer> {
    for (let left = bytes; left > 0; ) {
      if (!(await fill())) throw new ImageError("image_corrupt", "a layer's archive ends in the middle");
      const piece = cut(left);
      left -= piece.length;
      yield piece;
    }
  }

  async function take(bytes: number): Promise<Buffer | undefined> {
    if (!(await fill())) return undefined;
    if (held.length >= bytes) return cut(bytes);
    const pieces: Buffer[] = [];
    for await (const piece of pass(bytes)) pieces.push(piece);
    return Buffer.concat(pieces);
  }

  async function* rest(): AsyncGenerator<Buffer> {
    while (await fill()) yield cut(held.length);
  }

  return { take, pass, rest };
}

/** A body's length with the zeroes that fill its last block. */
export function bodyBytes(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;
}
