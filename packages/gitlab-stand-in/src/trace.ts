import { crc32 } from "node:zlib";

type AppendOutcome =
  | { readonly kind: "accepted"; readonly sizeBytes: number; readonly repeated: "no" | "same" | "different" }
  | { readonly kind: "elsewhere"; readonly sizeBytes: number };

/** The log of one job, as GitLab stores it. */
export interface Trace {
  readonly sizeBytes: number;
  bytes(): Buffer;
  text(): string;
  /** `crc32:` and 8 hex digits. */
  checksum(): string;
  append(body: Buffer, startBytes: number): AppendOutcome;
  /** Calls `listener` with the bytes of each append. Returns the way to stop. */
  onAppend(listener: (bytes: Buffer) => void): () => void;
}

/**
 * GitLab appends only at the exact end, then compares `stored size == start + body size`. So a repeat of exactly the last
 * bytes (an answer that was lost) passes, and every other start is answered with the size that is stored.
 */
export function createTrace(): Trace {
  const chunks: Buffer[] = [];
  const listeners = new Set<(bytes: Buffer) => void>();
  let sizeBytes = 0;

  function bytes(): Buffer {
    if (chunks.length > 1) chunks.splice(0, chunks.length, Buffer.concat(chunks));
    return chunks[0] ?? Buffer.alloc(0);
  }

  function append(body: Buffer, startBytes: number): AppendOutcome {
    if (startBytes === sizeBytes) {
      chunks.push(body);
      sizeBytes += body.length;
      for (const listener of listeners) listener(body);
      return { kind: "accepted", sizeBytes, repeated: "no" };
    }
    if (startBytes + body.length !== sizeBytes) return { kind: "elsewhere", sizeBytes };
    const same = bytes().subarray(startBytes).equals(body);
    return { kind: "accepted", sizeBytes, repeated: same ? "same" : "different" };
  }

  return {
    get sizeBytes() {
      return sizeBytes;
    },
    bytes,
    text: () => bytes().toString("utf8"),
    checksum: () => `crc32:${crc32(bytes()).toString(16).padStart(8, "0")}`,
    append,
    onAppend(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
