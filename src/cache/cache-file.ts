/**
 * The file of one cache: a block of fixed size that says what it is, and the archive as it came. One file, so that one rename makes all of
 * it appear, and nothing beside it can say something else.
 */
import type { FileHandle } from "node:fs/promises";
import { z } from "zod";

/** A block of the file system, so that archives begin where disks like to read. */
export const HEADER_BYTES = 4_096;

/** `key` in Base64: whatever letters it has, it fits. */
const Header = z.object({
  version: z.literal(1),
  key: z.base64().nullable(),
  bytes: z.int().min(0),
  storedAt: z.int().min(0),
  etag: z.string().regex(/^"[0-9a-f-]{1,64}"$/),
});

export interface FileHeader {
  readonly key: string | undefined;
  /** Of the archive. */
  readonly bytes: number;
  /** Epoch ms. */
  readonly storedAt: number;
  readonly etag: string;
}

export function renderHeader({ key, ...rest }: FileHeader): Buffer {
  const encoded = key === undefined ? null : Buffer.from(key, "utf8").toString("base64");
  const block = Buffer.alloc(HEADER_BYTES, "\n");
  const text = JSON.stringify({ version: 1, key: encoded, ...rest });
  if (Buffer.byteLength(text) > HEADER_BYTES) throw new RangeError("a cache's key is too long for its file");
  block.write(text, "utf8");
  return block;
}

/** Undefined when it is no whole file of a cache. */
export async function readHeader(handle: FileHandle): Promise<FileHeader | undefined> {
  const block = Buffer.alloc(HEADER_BYTES);
  const { bytesRead } = await handle.read(block, 0, HEADER_BYTES, 0);
  if (bytesRead !== HEADER_BYTES) return undefined;
  const header = parse(block.toString("utf8"));
  if (header === undefined || (await handle.stat()).size !== HEADER_BYTES + header.bytes) return undefined;
  const { key, bytes, storedAt, etag } = header;
  return {
    key: key === null ? undefined : Buffer.from(key, "base64").toString("utf8"),
    bytes,
    storedAt,
    etag,
  };
}

function parse(text: string): z.infer<typeof Header> | undefined {
  try {
    return Header.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}
