import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { MIB_BYTES } from "../base/units.ts";
import { ImageError } from "./errors.ts";

/**
 * Takes the uncompressed kernel out of a distribution's `vmlinuz`: every hypervisor accepts it, and a guest need not
 * decompress it (0.3 s of each boot under emulation). x86 layout: Documentation/arch/x86/boot.rst, "payload_offset".
 */
export function extractKernel(image: Buffer, architecture: string): Buffer {
  const kernel = architecture === "amd64" ? extractX86(image) : decompress(image);
  const expected = architecture === "amd64" ? isElf(kernel) : isArm64Image(kernel);
  if (!expected)
    throw new ImageError("image_build_failed", "the kernel package holds no kernel of a known form");
  return kernel;
}

function extractX86(image: Buffer): Buffer {
  if (isElf(image)) return image;
  if (image.length < 0x250 || image.toString("latin1", 0x202, 0x206) !== "HdrS")
    throw new ImageError("image_build_failed", "the kernel package's vmlinuz is not an x86 boot image");
  const setupSectors = image[0x1f1] || 4;
  const start = (setupSectors + 1) * 512 + image.readUInt32LE(0x248);
  // The payload's last four bytes are its decompressed size, not part of the compressed data.
  return decompress(image.subarray(start, start + image.readUInt32LE(0x24c) - 4));
}

function decompress(data: Buffer): Buffer {
  if (isLegacyLz4(data)) return decompressLegacyLz4(data);
  if (data[0] === 0x1f && data[1] === 0x8b) return gunzipSync(data);
  if (data.length > 4 && data.readUInt32LE(0) === 0xfd2fb528) return zstdDecompressSync(data);
  if (isElf(data) || isArm64Image(data)) return data;
  throw new ImageError(
    "image_build_failed",
    `the kernel is compressed in a form that is not known here (it starts with ${data.toString("hex", 0, 4)})`,
    { hint: "use a suite whose kernel is packed with lz4, gzip or zstd, such as bookworm" },
  );
}

function isElf(data: Buffer): boolean {
  return data.length > 4 && data.readUInt32BE(0) === 0x7f454c46;
}

function isArm64Image(data: Buffer): boolean {
  return data.length > 64 && data.toString("latin1", 56, 60) === "ARM\x64";
}

/**
 * Decompresses the "legacy" LZ4 frames in which Debian packs its kernels: a magic number, then blocks, each a length and an
 * LZ4 block of at most 8 MiB decompressed. Format: doc/lz4_Frame_format.md and doc/lz4_Block_format.md of the LZ4 project.
 */

const LEGACY_MAGIC = 0x184c2102;
const BLOCK_BYTES = 8 * MIB_BYTES;

function isLegacyLz4(data: Buffer): boolean {
  return data.length > 8 && data.readUInt32LE(0) === LEGACY_MAGIC;
}

export function decompressLegacyLz4(data: Buffer): Buffer {
  const blocks: Buffer[] = [];
  let at = 4;
  while (at + 4 <= data.length) {
    const length = data.readUInt32LE(at);
    at += 4;
    if (at + length > data.length) throw broken("a block ends beyond the data");
    blocks.push(decompressBlock(data.subarray(at, at + length)));
    at += length;
  }
  return Buffer.concat(blocks);
}

function decompressBlock(input: Buffer): Buffer {
  const output = Buffer.allocUnsafe(BLOCK_BYTES);
  let from = 0;
  let to = 0;

  function extendedLength(nibble: number): number {
    if (nibble < 15) return nibble;
    let length = nibble;
    for (let byte = 255; byte === 255; length += byte) {
      byte = input[from++] ?? -1;
      if (byte < 0) throw broken("a length is cut off");
    }
    return length;
  }

  while (from < input.length) {
    const token = input[from++] ?? 0;
    const literals = extendedLength(token >> 4);
    if (from + literals > input.length || to + literals > BLOCK_BYTES) throw broken("literals overrun");
    input.copy(output, to, from, from + literals);
    from += literals;
    to += literals;
    // The last sequence of a block has literals only.
    if (from >= input.length) break;
    const distance = input.readUInt16LE(from);
    from += 2;
    const length = extendedLength(token & 15) + 4;
    if (distance === 0 || distance > to || to + length > BLOCK_BYTES)
      throw broken("a match is out of bounds");
    copyMatch(output, to, distance, length);
    to += length;
  }
  return output.subarray(0, to);
}

/** Byte by byte when source and target overlap: that is how LZ4 writes runs. */
function copyMatch(output: Buffer, to: number, distance: number, length: number): void {
  if (distance >= length) {
    output.copyWithin(to, to - distance, to - distance + length);
    return;
  }
  for (let index = 0; index < length; index++) output[to + index] = output[to + index - distance] ?? 0;
}

function broken(detail: string): ImageError {
  return new ImageError("image_build_failed", `the kernel's LZ4 data is broken: ${detail}`);
}
