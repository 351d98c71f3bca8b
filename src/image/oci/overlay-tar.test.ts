import { buffer } from "node:stream/consumers";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type TestEntry, tarOf } from "../../../test/builders/tar.ts";
import { run } from "../../base/process.ts";
import { toOciLayer } from "./overlay-tar.ts";
import { writeLongName } from "./tar.ts";

async function translated(tar: Buffer, chunkBytes = tar.length): Promise<Buffer> {
  async function* chunks() {
    for (let at = 0; at < tar.length; at += chunkBytes) yield tar.subarray(at, at + chunkBytes);
  }
  return await buffer(toOciLayer(chunks()));
}

/** What GNU tar finds in it. */
async function listing(tar: Buffer): Promise<string[]> {
  const text = await run("tar", ["--numeric-owner", "--full-time", "-tvf", "-"], {
    input: tar,
    env: { ...process.env, TZ: "UTC" },
  });
  return text
    .trim()
    .split("\n")
    .map((line) => line.replace(/ +/g, " "));
}

const plain: readonly TestEntry[] = [
  { path: "./", type: "5", mode: 0o755 },
  { path: "./file", content: "x".repeat(700), owner: [1000, 100], xattrs: { "security.capability": "abc" } },
  { path: "./hard", type: "1", link: "./file" },
  { path: "./link", type: "2", link: "file" },
  { path: "./null", type: "3", device: [1, 3], mode: 0o666 },
];

describe("an overlay layer as an OCI layer", () => {
  test("is the same to the byte when nothing is hidden", async () => {
    const tar = tarOf(plain);

    expect(await translated(tar)).toEqual(tar);
  });

  test("hides names of the layers below with files of reserved names", async () => {
    const tar = tarOf([...plain, { path: "./usr/gone", type: "3", device: [0, 0] }]);

    expect((await listing(await translated(tar))).at(-1)).toBe(
      "-rw-r--r-- 0/0 0 2020-09-13 12:26:40 ./usr/.wh.gone",
    );
  });

  test("makes a directory opaque, and loses the attribute that said so", async () => {
    const xattrs = { "trusted.overlay.opaque": "y", "user.kept": "1", "trusted.overlay.origin": "z" };
    const tar = tarOf([{ path: "./new/", type: "5", xattrs }, ...plain]);

    const layer = await translated(tar);

    expect((await listing(layer)).slice(0, 2).map((line) => line.split(" ").at(-1))).toEqual([
      "./new/",
      "./new/.wh..wh..opq",
    ]);
    expect(layer.includes("overlay")).toBe(false);
    expect(layer.includes("SCHILY.xattr.user.kept=1")).toBe(true);
  });

  test("hides a name of any length", async () => {
    const path = `./${"d".repeat(120)}/${"n".repeat(200)}`;
    const tar = Buffer.concat([
      writeLongName(path),
      tarOf([{ path: "cut", type: "3", device: [0, 0] }, ...plain]),
    ]);

    const [first = "", second = ""] = await listing(await translated(tar));

    expect(first.split(" ").at(-1)).toBe(`./${"d".repeat(120)}/.wh.${"n".repeat(200)}`);
    expect(second).toContain("./");
  });

  test("is an error where OCI has no words for it", async () => {
    const tar = tarOf([{ path: "./moved/", type: "5", xattrs: { "trusted.overlay.redirect": "/old" } }]);

    await expect(translated(tar)).rejects.toMatchObject({ code: "image_build_failed" });
  });

  test("is an error when the archive is cut off", async () => {
    const tar = tarOf(plain);

    for (const bytes of [512, 1024 + 600, tar.length - 1024])
      await expect(translated(tar.subarray(0, bytes))).rejects.toMatchObject({ code: "image_corrupt" });
  });

  test("does not depend on the pieces in which the archive comes", async () => {
    const tar = tarOf([
      ...plain,
      { path: "./a", type: "3", device: [0, 0] },
      { path: "./b/", type: "5", xattrs: { "user.overlay.opaque": "y" } },
    ]);
    const whole = await translated(tar);

    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 2000 }), async (chunkBytes) => {
        expect((await translated(tar, chunkBytes)).equals(whole)).toBe(true);
      }),
      { numRuns: 40 },
    );
  });
});
