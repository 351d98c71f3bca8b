/** Reading what somebody else sends, whole, but never more than a bound. */

/** What was read of a stream. */
export interface BoundedRead {
  readonly bytes: Buffer;
  /** Why the reading ended early: a TooLongError, or what the stream failed with. Undefined when it is whole. */
  readonly cut: unknown;
}

/** More came than may be held. */
export class TooLongError extends Error {
  constructor(mostBytes: number) {
    super(`it is longer than ${mostBytes} bytes`);
  }
}

/**
 * Reads a stream to its end, or until it has passed `mostBytes`: what came before is kept, the rest is left unread. Never rejects.
 * What `onChunk` throws of a piece that is about to be kept ends the reading too.
 */
export async function readBounded(
  stream: AsyncIterable<Uint8Array>,
  mostBytes: number,
  onChunk?: (chunk: Uint8Array) => void,
): Promise<BoundedRead> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  let cut: unknown;
  try {
    for await (const chunk of stream) {
      if (length + chunk.length > mostBytes) throw new TooLongError(mostBytes);
      onChunk?.(chunk);
      length += chunk.length;
      chunks.push(chunk);
    }
  } catch (error) {
    cut = error;
  }
  return { bytes: Buffer.concat(chunks, length), cut };
}

/** As `readBounded`; but what ended it early is thrown. */
export async function readWhole(
  stream: AsyncIterable<Uint8Array>,
  mostBytes: number,
  onChunk?: (chunk: Uint8Array) => void,
): Promise<Buffer> {
  const { bytes, cut } = await readBounded(stream, mostBytes, onChunk);
  if (cut !== undefined) throw cut;
  return bytes;
}
