/** The archive of a layer out of its blob, whichever way it was compressed: the beginning of the file says it, as podman takes it too. */
import { createReadStream } from "node:fs";
import { type FileHandle, open, rm, stat } from "node:fs/promises";
import type { Transform } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { describeError } from "../../base/errors.ts";
import { LayerRefusal } from "./refusal.ts";

/** Larger pieces cost more memory, and no less time. */
const PIECE_BYTES = 128 * 1024;
const WRITTEN_AT_ONCE = 8;
/** One for each file, and some. */
const FRAMES_MAX = 1_500_000;

/** As podman's storage numbers them. */
export type Compression = 0 | 2 | 4;

export async function compressionOf(path: string): Promise<Compression> {
  await using file = await open(path);
  const { buffer } = await file.read(Buffer.alloc(4), 0, 4, 0);
  if (buffer.readUInt16BE(0) === 0x1f8b) return 2;
  const magic = buffer.readUInt32LE(0);
  // A stream of zstd may begin with a frame that is to be skipped.
  return magic === 0xfd2fb528 || (magic & 0xfffffff0) >>> 0 === 0x184d2a50 ? 4 : 0;
}

/** The archive of a layer, which is read to its end and then once more. A piece of it is good until the next one is asked for. */
export interface Archive extends AsyncDisposable {
  first(): AsyncGenerator<Buffer>;
  again(): AsyncGenerator<Buffer>;
}

/**
 * Unpacking is most of the work: what comes of it is written to a file without a name, from which it is read the second time. `spool` is
 * the name that this file has for a moment.
 */
export async function openArchive(path: string, compression: Compression, spool: string): Promise<Archive> {
  if (compression === 0) {
    const read = () => readPlain(path);
    return { first: read, again: read, [Symbol.asyncDispose]: async () => {} };
  }
  const file = await open(spool, "wx+", 0o600);
  await rm(spool);
  return {
    async *first() {
      const held: Buffer[] = [];
      for await (const chunk of unpack(path, compression)) {
        // What its reader refuses is not kept.
        yield chunk;
        held.push(chunk);
        if (held.length >= WRITTEN_AT_ONCE) await file.writev(held.splice(0));
      }
      if (held.length > 0) await file.writev(held);
    },
    again: () => readAgain(file),
    [Symbol.asyncDispose]: () => file.close(),
  };
}

/** Always into the same memory, which costs half of what new memory for each piece would. */
async function* readAgain(file: FileHandle): AsyncGenerator<Buffer> {
  const memory = Buffer.allocUnsafeSlow(2 * PIECE_BYTES);
  for (let at = 0; ; ) {
    const { bytesRead } = await file.read(memory, 0, memory.length, at);
    if (bytesRead === 0) return;
    at += bytesRead;
    yield memory.subarray(0, bytesRead);
  }
}

async function* readPlain(path: string): AsyncGenerator<Buffer> {
  yield* createReadStream(path, { highWaterMark: PIECE_BYTES }) as AsyncIterable<Buffer>;
}

async function* unpack(path: string, compression: 2 | 4): AsyncGenerator<Buffer> {
  try {
    yield* compression === 2
      ? unpackFrom(path, 0, createGunzip({ chunkSize: PIECE_BYTES }))
      : unpackFrames(path);
  } catch (error) {
    throw new LayerRefusal(`it cannot be unpacked: ${describeError(error)}`);
  }
}

/** Some tools write a frame for each file, that parts of the layer can be had alone; Node stops after the first. */
async function* unpackFrames(path: string): AsyncGenerator<Buffer> {
  const { size } = await stat(path);
  for (let at = 0, frames = 1; at < size; frames++) {
    if (frames > FRAMES_MAX) throw new Error(`it has more than ${FRAMES_MAX} parts`);
    const frame = createZstdDecompress({ chunkSize: PIECE_BYTES });
    yield* unpackFrom(path, at, frame);
    if (frame.bytesWritten === 0) throw new Error("it has a part that is no zstd");
    at += frame.bytesWritten;
  }
}

async function* unpackFrom(path: string, start: number, unpacked: Transform): AsyncGenerator<Buffer> {
  const file = createReadStream(path, { start, highWaterMark: PIECE_BYTES });
  file.on("error", (error) => unpacked.destroy(error)).pipe(unpacked);
  try {
    yield* unpacked as AsyncIterable<Buffer>;
  } finally {
    file.destroy();
    unpacked.destroy();
  }
}
