/**
 * One body in pages. Thousands of tiny chunks kept as they come would take many times their length; one piece that doubles would
 * be half empty at times, and copied again and again.
 */
export interface BodyPages {
  /** What the body holds. */
  readonly length: number;
  /** Room in the last page that nothing fills yet. */
  readonly spareBytes: number;
  addPage(bytes: number): void;
  /** For no more than `spareBytes`. */
  append(chunk: Uint8Array): void;
  /** Gives up what is spare. */
  trim(): void;
  /** All of it in one piece, which takes the place of the pages. */
  join(): Buffer;
  clear(): void;
}

export function createBodyPages(): BodyPages {
  let full: Buffer[] = [];
  let last = Buffer.alloc(0);
  let filled = 0;
  let length = 0;

  function closeLast(): void {
    if (filled > 0) full.push(filled === last.length ? last : copyOf(last.subarray(0, filled)));
    last = Buffer.alloc(0);
    filled = 0;
  }

  return {
    get length() {
      return length;
    },
    get spareBytes() {
      return last.length - filled;
    },
    addPage(bytes) {
      closeLast();
      last = Buffer.allocUnsafeSlow(bytes);
    },
    append(chunk) {
      last.set(chunk, filled);
      filled += chunk.length;
      length += chunk.length;
    },
    trim: closeLast,
    join() {
      closeLast();
      const [whole = Buffer.alloc(0)] = full.length > 1 ? [Buffer.concat(full, length)] : full;
      full = [whole];
      return whole;
    },
    clear() {
      full = [];
      last = Buffer.alloc(0);
      filled = 0;
      length = 0;
    },
  };
}

/** Not from Node's pool, of which the smallest piece keeps a whole slab. */
function copyOf(piece: Buffer): Buffer<ArrayBuffer> {
  const copy = Buffer.allocUnsafeSlow(piece.length);
  piece.copy(copy);
  return copy;
}
