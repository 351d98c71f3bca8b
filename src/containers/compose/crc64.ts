/**
 * CRC-64/ISO, by which tar-split knows the content of files. Its polynomial, x⁶⁴ + x⁴ + x³ + x + 1, is so short that 64 bits at a time are
 * a few shifts, and no table is needed.
 */
export interface Crc64 {
  update(bytes: Uint8Array): void;
  /** Eight bytes, the highest first. */
  digest(): Buffer;
}

export function createCrc64(): Crc64 {
  // The register, its low half (where the next byte goes) and its high one. It begins with all bits set, and ends inverted.
  let low = -1;
  let high = -1;

  function bytewise(bytes: Uint8Array, from: number, to: number): void {
    for (let at = from; at < to; at++) {
      const top = (low ^ (bytes[at] ?? 0)) << 24;
      low = (low >>> 8) | (high << 24);
      high = (high >>> 8) ^ top ^ (top >>> 1) ^ (top >>> 3) ^ (top >>> 4);
    }
  }

  /** Two words at a time. What is carried out at the lower end, four bits, is folded in at the upper one. */
  function wordwise(words: Int32Array): void {
    let [l, h] = [low, high];
    for (let at = 0; at < words.length; at += 2) {
      const a = l ^ (words[at] ?? 0);
      const b = h ^ (words[at + 1] ?? 0);
      const out = (a << 31) ^ (a << 29) ^ (a << 28);
      l = a ^ (a >>> 1) ^ (a >>> 3) ^ (a >>> 4) ^ (b << 31) ^ (b << 29) ^ (b << 28);
      h = b ^ (b >>> 1) ^ (b >>> 3) ^ (b >>> 4) ^ out ^ (out >>> 1) ^ (out >>> 3) ^ (out >>> 4);
    }
    [low, high] = [l, h];
  }

  return {
    update(bytes) {
      const start = -bytes.byteOffset & 3;
      const words = (Math.max(0, bytes.length - start) >>> 3) * 2;
      if (words === 0) return bytewise(bytes, 0, bytes.length);
      bytewise(bytes, 0, start);
      wordwise(new Int32Array(bytes.buffer, bytes.byteOffset + start, words));
      bytewise(bytes, start + 4 * words, bytes.length);
    },
    digest() {
      const sum = Buffer.alloc(8);
      sum.writeInt32BE(~high, 0);
      sum.writeInt32BE(~low, 4);
      return sum;
    },
  };
}
