import { ImageError } from "../errors.ts";
import { BLOCK_BYTES } from "./tar.ts";

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
