import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { ImageError } from "./errors.ts";
import { decompressLegacyLz4, isLegacyLz4 } from "./lz4.ts";

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
