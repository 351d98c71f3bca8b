/** The archive of a layer out of its blob, whichever way it was compressed: the beginning of the file says it, as podman takes it too. */
import { createReadStream } from "node:fs";
import { open, rm } from "node:fs/promises";
import type { Transform } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { describeError } from "../../base/errors.ts";
import { LayerRefusal } from "./refusal.ts";

/** Larger pieces cost more memory, and no less time. */
const PIECE_BYTES = 128 * 1024;
const WRITTEN_AT_ONCE = 8;

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

/** The archive of a layer, which is read to its end and then once more. */
export interface Archive extends AsyncDisposable {
  first(): AsyncGenerator<Buffer>;
  again(): AsyncIterable<Buffer>;
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
    again: () => file.createReadStream({ start: 0, autoClose: false, highWaterMark: PIECE_BYTES }),
    [Symbol.asyncDispose]: () => file.close(),
  };
}

async function* readPlain(path: string): AsyncGenerator<Buffer> {
  yield* createReadStream(path, { highWaterMark: PIECE_BYTES }) as AsyncIterable<Buffer>;
}

async function* unpack(path: string, compression: 2 | 4): AsyncGenerator<Buffer> {
  const file = createReadStream(path, { highWaterMark: PIECE_BYTES });
  const unpacked = decompressor(compression);
  file.on("error", (error) => unpacked.destroy(error)).pipe(unpacked);
  try {
    yield* unpacked as AsyncIterable<Buffer>;
  } catch (error) {
    throw new LayerRefusal(`it cannot be unpacked: ${describeError(error)}`);
  } finally {
    file.destroy();
    unpacked.destroy();
  }
}

function decompressor(compression: 2 | 4): Transform {
  const options = { chunkSize: PIECE_BYTES };
  return compression === 2 ? createGunzip(options) : createZstdDecompress(options);
}
