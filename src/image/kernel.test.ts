import { gzipSync, zstdCompressSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { decompressLegacyLz4, extractKernel } from "./kernel.ts";

const elf = Buffer.concat([Buffer.from([0x7f, 0x45, 0x4c, 0x46]), Buffer.from("kernel ".repeat(100))]);

/** An x86 boot image with `payload` behind one setup sector, as Documentation/arch/x86/boot.rst has it. */
function bootImage(payload: Buffer): Buffer {
  const header = Buffer.alloc(1024);
  header[0x1f1] = 1;
  header.write("HdrS", 0x202);
  header.writeUInt32LE(16, 0x248);
  header.writeUInt32LE(payload.length + 4, 0x24c);
  return Buffer.concat([header, Buffer.alloc(16), payload, Buffer.alloc(4), Buffer.from("trailing")]);
}

/** Literals only, or literals and one match, by doc/lz4_Block_format.md. */
function legacyFrame(...blocks: number[][]): Buffer {
  const parts = blocks.flatMap((block) => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(block.length);
    return [length, Buffer.from(block)];
  });
  return Buffer.concat([Buffer.from([0x02, 0x21, 0x4c, 0x18]), ...parts]);
}

const bytesOf = (text: string) => [...Buffer.from(text)];

describe("a kernel", () => {
  test.each([
    ["gzip", gzipSync(elf)],
    ["zstd", zstdCompressSync(elf)],
    ["nothing", elf],
  ])("is taken out of a boot image packed with %s", (_, payload) => {
    expect(extractKernel(bootImage(payload), "amd64").equals(elf)).toBe(true);
  });

  test("is taken out of a boot image packed with legacy lz4", () => {
    const small = elf.subarray(0, 14);

    expect(extractKernel(bootImage(legacyFrame([0xe0, ...small])), "amd64").equals(small)).toBe(true);
  });

  test("for arm64 may be gzipped as a whole", () => {
    const image = Buffer.alloc(128);
    image.write("ARM\x64", 56, "latin1");

    expect(extractKernel(gzipSync(image), "arm64").equals(image)).toBe(true);
  });

  test("in an unknown form is refused with its first bytes", () => {
    expect(() => extractKernel(bootImage(Buffer.from("BZh9 something")), "amd64")).toThrow("425a6839");
    expect(() => extractKernel(Buffer.alloc(2048), "amd64")).toThrow("not an x86 boot image");
  });
});

describe("legacy lz4", () => {
  test("copies literals and matches, overlapping ones byte by byte", () => {
    // 3 literals "abc", then 9 bytes from 3 back: "abc" three more times; then the last literals.
    const frame = legacyFrame([0x35, ...bytesOf("abc"), 3, 0, 0x20, ...bytesOf("xy")]);

    expect(decompressLegacyLz4(frame).toString()).toBe("abcabcabcabcxy");
  });

  test("reads lengths that go on in further bytes", () => {
    const literals = bytesOf("x".repeat(300));
    const frame = legacyFrame([0xf0, 255, 30, ...literals], [0x10, ...bytesOf("y")]);

    expect(decompressLegacyLz4(frame).toString()).toBe(`${"x".repeat(300)}y`);
  });

  test.each([
    ["a match before the beginning", [0x10, 97, 9, 0, 0x00]],
    ["literals beyond the end", [0x90, 97]],
    ["a length that is cut off", [0xf0, 255]],
  ])("refuses %s", (_, block) => {
    expect(() => decompressLegacyLz4(legacyFrame(block))).toThrow("broken");
  });

  test("refuses a block that ends beyond the data", () => {
    expect(() => decompressLegacyLz4(legacyFrame([0x10, 97]).subarray(0, 9))).toThrow("beyond the data");
  });
});
