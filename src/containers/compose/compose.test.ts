import { execFileSync } from "node:child_process";
import { createCipheriv } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gunzipSync, gzipSync, zstdCompressSync } from "node:zlib";
import { afterEach, describe, expect, test } from "vitest";
import { imageOf, type LayerEntry, type TestImage, tarOf } from "../../../test/builders/layer.ts";
import { temporaryDirectory } from "../../../test/builders/temporary-directory.ts";
import { composeDisk, usualLimits } from "./compose.ts";
import { createCrc64 } from "./crc64.ts";

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const each of open.splice(0)) await each[Symbol.asyncDispose]();
});

async function newDirectory(): Promise<string> {
  const directory = await temporaryDirectory();
  open.push(directory);
  return directory.path;
}

async function compose(image: TestImage, limits = usualLimits): Promise<string> {
  const directory = await newDirectory();
  const layers = await Promise.all(
    image.layers.map(async ({ digest, blob, diffId }) => {
      const path = join(directory, digest.slice(7, 19));
      await writeFile(path, blob);
      return { path, digest, bytes: blob.length, diffId };
    }),
  );
  const target = join(directory, "disk.sqfs");
  await composeDisk({ ...image, names: ["example.org/a/b:1"], layers, target, limits, jobs: 1 });
  return target;
}

const listed = (disk: string) => execFileSync("unsquashfs", ["-lln", disk], { encoding: "utf8" });
const read = (disk: string, path: string) => execFileSync("unsquashfs", ["-cat", disk, path]);

/** What the only layer, or the one of this number, shows: `type+mode path [-> target]`, without the directory it lies in. */
function treeOf(disk: string, number = 0): string[] {
  const ids = layerIds(disk);
  const prefix = `squashfs-root/overlay/${ids[number]}/diff/`;
  return listed(disk)
    .split("\n")
    .filter((line) => line.includes(prefix))
    .map((line) => `${line.slice(0, 10)} ${line.slice(line.indexOf(prefix) + prefix.length)}`)
    .toSorted();
}

function layerIds(disk: string): string[] {
  const layers = JSON.parse(read(disk, "overlay-layers/layers.json").toString()) as { id: string }[];
  return layers.map(({ id }) => id);
}

const contentOf = (disk: string, path: string, number = 0) =>
  read(disk, `overlay/${layerIds(disk)[number]}/diff/${path}`).toString();

const one = (entries: readonly LayerEntry[]) => imageOf([tarOf(entries)]);

describe("a layer", () => {
  test("shows what unpacking it in its order would leave", async () => {
    const image = one([
      { path: "./", type: "5", mode: 0o755 },
      { path: "twice", content: "first" },
      { path: "linked", type: "1", target: "twice" },
      { path: "twice", content: "second" },
      { path: "dir", type: "5", mode: 0o700 },
      { path: "dir/in", content: "x" },
      { path: "dir", type: "5", mode: 0o750 },
      { path: "was-dir", type: "5" },
      { path: "was-dir/in", content: "x" },
      { path: "was-dir", content: "file" },
      { path: "link", type: "2", target: "/etc/passwd" },
      { path: "link", type: "5", mode: 0o755 },
      { path: "link/in", content: "in" },
      { path: "pipe", type: "6" },
      { path: "null", type: "3" },
      { path: "/slash/at/the/start", content: "inside" },
    ]);

    const disk = await compose(image);

    expect(treeOf(disk)).toEqual([
      "-rw-r--r-- dir/in",
      "-rw-r--r-- link/in",
      "-rw-r--r-- linked",
      "-rw-r--r-- slash/at/the/start",
      "-rw-r--r-- twice",
      "-rw-r--r-- was-dir",
      "drwxr-x--- dir",
      "drwxr-xr-x link",
      "drwxr-xr-x slash",
      "drwxr-xr-x slash/at",
      "drwxr-xr-x slash/at/the",
      "prw-r--r-- pipe",
    ]);
    expect(contentOf(disk, "twice")).toBe("second");
    expect(contentOf(disk, "linked")).toBe("first");
  });

  test("hides what is below it as overlayfs does", async () => {
    const image = imageOf([
      tarOf([
        { path: "gone", content: "x" },
        { path: "dir/old", content: "x" },
      ]),
      tarOf([
        { path: ".wh.gone" },
        { path: "dir/.wh..wh..opq" },
        { path: "dir/new", content: "x" },
        { path: ".wh.both" },
        { path: "both/in", content: "x" },
        { path: ".wh.both2" },
        { path: "both2", content: "x" },
        { path: ".wh.whole" },
        { path: "whole/.wh.part" },
      ]),
    ]);

    const disk = await compose(image);

    expect(treeOf(disk, 1)).toEqual([
      "-rw-r--r-- both/in",
      "-rw-r--r-- both2",
      "-rw-r--r-- dir/new",
      "c--------- gone",
      "c--------- whole",
      "drwxr-xr-x both",
      "drwxr-xr-x dir",
    ]);
    const [below, above] = layerIds(disk);
    expect(read(disk, `overlay/${above}/lower`).toString()).toBe(`l/${read(disk, `overlay/${below}/link`)}`);
  });

  test("may have names of any bytes and any length, and attributes", async () => {
    const long = `${"d".repeat(90)}/${"e".repeat(90)}/file`;
    const image = one([
      { path: "short", content: "a", pax: { path: long } },
      { path: "caf\u00e9", content: "b" },
      { path: "far", type: "2", pax: { linkpath: `/${"t".repeat(300)}` } },
      {
        path: "tagged",
        content: "c",
        pax: {
          "SCHILY.xattr.user.a": "1\u0000\u00ff",
          "SCHILY.xattr.trusted.overlay.opaque": "y",
          uid: "3000000",
        },
      },
    ]);

    const disk = await compose(image);

    expect(contentOf(disk, long)).toBe("a");
    expect(listed(disk)).toContain(`far -> /${"t".repeat(300)}`);
    expect(listed(disk)).toMatch(/3000000\/0 .*tagged/);
  });

  test.each([
    ["gzip", gzipSync],
    [
      "gzip in two parts",
      (archive: Buffer) =>
        Buffer.concat([gzipSync(archive.subarray(0, 700)), gzipSync(archive.subarray(700))]),
    ],
    ["zstd", (archive: Buffer) => zstdCompressSync(archive)],
    [
      "zstd in two parts",
      (archive: Buffer) =>
        Buffer.concat([zstdCompressSync(archive.subarray(0, 700)), zstdCompressSync(archive.subarray(700))]),
    ],
    ["nothing", (archive: Buffer) => archive],
  ])("may be compressed by %s", async (_, pack) => {
    const image = imageOf([tarOf([{ path: "a", content: "b".repeat(5_000) }])], { pack });

    expect(contentOf(await compose(image), "a")).toHaveLength(5_000);
  });

  test("comes through whole, however its entries lie in the pieces in which it is read", async () => {
    const contents = Array.from({ length: 60 }, (_, at) =>
      createCipheriv("aes-128-ctr", Buffer.alloc(16, at), Buffer.alloc(16)).update(
        Buffer.alloc(at * 997 + (at % 7) * 40_000),
      ),
    );
    const image = one(
      contents.flatMap((content, at) => [
        { path: `f${at}`, content },
        { path: `f${at}`, content: "" },
        { path: `g${at}`, content },
      ]),
    );

    const disk = await compose(image);

    for (const [at, content] of contents.entries())
      expect(read(disk, `overlay/${layerIds(disk)[0]}/diff/g${at}`).equals(content)).toBe(true);
  });

  test("can be sent on as it came", async () => {
    const archive = tarOf([
      { path: "a", content: "x".repeat(700) },
      { path: "a", content: "again" },
      { path: "b", type: "1", target: "a" },
      { path: ".wh.c" },
      { path: "empty" },
    ]);
    const image = imageOf([Buffer.concat([archive, Buffer.alloc(9_216, 7)])]);

    const disk = await compose(image);

    const [id = ""] = layerIds(disk);
    const lines = gunzipSync(read(disk, `overlay-layers/${id}.tar-split.gz`))
      .toString()
      .trim()
      .split("\n");
    const parts = lines.map((line) => JSON.parse(line) as Record<string, string | number>);
    expect(parts.map(({ position }) => position)).toEqual(parts.map((_, at) => at));
    const rebuilt = parts.map(({ type, payload, name, size }) => {
      if (type === 2) return Buffer.from(String(payload), "base64");
      const content = read(disk, `overlay/${id}/diff/${name}`);
      expect(content).toHaveLength(Number(size));
      const crc = createCrc64();
      crc.update(content);
      expect(crc.digest().toString("base64")).toBe(payload);
      return content;
    });
    expect(Buffer.concat(rebuilt).equals(Buffer.concat([archive, Buffer.alloc(9_216, 7)]))).toBe(true);
  });
});

test("the same image is the same disk, byte by byte", async () => {
  const image = one([{ path: "a/b", content: "c", mtimeS: 1_700_000_000 }]);

  const [first, second] = [await readFile(await compose(image)), await readFile(await compose(image))];

  expect(first.equals(second)).toBe(true);
});

describe("refused, and nothing is kept:", () => {
  const damaged = tarOf([{ path: "a", content: "b" }]);
  damaged[0] = 0x62;
  const file = { path: "a", content: "x" };
  const hostile: Record<string, Buffer> = {
    "leads upwards": tarOf([{ path: "a/../../etc/passwd", content: "x" }]),
    "behind a symbolic link": tarOf([
      { path: "l", type: "2", target: "/etc" },
      { path: "l/passwd", content: "x" },
    ]),
    "whiteout behind a symbolic link": tarOf([{ path: "l", type: "2", target: "/" }, { path: "l/.wh.etc" }]),
    "below a file": tarOf([file, { path: "a/b", content: "x" }]),
    "below a device": tarOf([
      { path: "a", type: "4" },
      { path: "a/b", content: "x" },
    ]),
    "hard link to nothing": tarOf([{ path: "a", type: "1", target: "b" }]),
    "hard link to what comes later": tarOf([{ path: "b", type: "1", target: "a" }, file]),
    "hard link out of the layer": tarOf([{ path: "b", type: "1", target: "../../../etc/shadow" }]),
    "hard link to a directory": tarOf([
      { path: "a", type: "5" },
      { path: "b", type: "1", target: "a" },
    ]),
    "hides its own parent": tarOf([{ path: "a/.wh..." }]),
    "hides no name": tarOf([{ path: "a/.wh." }]),
    "sparse file, old": tarOf([{ path: "a", type: "S" }]),
    "sparse file, new": tarOf([{ ...file, pax: { "GNU.sparse.major": "1" } }]),
    "unknown kind": tarOf([{ path: "a", type: "7" }]),
    "root that is a file": tarOf([{ path: "./", content: "x" }]),
    "name too long": tarOf([{ ...file, pax: { path: `${"n/".repeat(2_100)}a` } }]),
    "part of a name too long": tarOf([{ ...file, pax: { path: "n".repeat(256) } }]),
    "name with a zero": tarOf([{ ...file, pax: { path: "a\u0000b" } }]),
    "no name": tarOf([{ path: "", content: "x" }]),
    "link to nothing": tarOf([{ path: "a", type: "2", target: "" }]),
    "negative size": tarOf([{ ...file, pax: { size: "-1" } }]),
    "negative owner": tarOf([{ ...file, pax: { uid: "-1" } }]),
    "attribute too long": tarOf([{ ...file, pax: { "SCHILY.xattr.user.a": "x".repeat(70_000) } }]),
    "damaged checksum": damaged,
    "damaged pax header": tarOf([{ path: "pax", type: "x", content: "99 path=a\n" }, file]),
    "pax header too long": tarOf([{ path: "pax", type: "x", bytes: 2_000_000 }]),
    "ends in the middle": tarOf([{ path: "a", content: "x".repeat(3_000) }], { isEnded: false }).subarray(
      0,
      1_500,
    ),
    "no archive at all": Buffer.from("<html>".repeat(200)),
  };

  test.each(Object.entries(hostile))("%s", async (_, archive) => {
    const image = imageOf([archive]);
    const directory = await newDirectory();
    const path = join(directory, "blob");
    const [layer] = image.layers;
    await writeFile(path, layer?.blob ?? "");
    const layers = [{ path, digest: layer?.digest ?? "", bytes: 1_000, diffId: layer?.diffId ?? "" }];

    const composing = composeDisk({
      ...image,
      names: ["x"],
      layers,
      target: join(directory, "disk"),
      limits: usualLimits,
      jobs: 1,
    });

    await expect(composing).rejects.toMatchObject({
      code: "container_layer_refused",
      message: expect.stringContaining(layer?.digest.slice(0, 19) ?? "?"),
    });
    expect(await readdir(directory)).toEqual(["blob"]);
  });

  test.each([
    ["more than it may unpack to", { unpackedBytes: 5_000 }],
    ["a bomb", { ratio: 3, ratioFromBytes: 4_000 }],
    ["more entries than there may be", { entries: 2 }],
    ["more names than can be held", { heldBytes: 10 }],
  ])("%s", async (_, limits) => {
    const image = one([{ path: "a/b/c", content: "x".repeat(10_000) }]);

    await expect(compose(image, { ...usualLimits, ...limits })).rejects.toMatchObject({
      code: "container_layer_refused",
    });
  });

  test("another archive than the image names", async () => {
    const image = one([{ path: "a", content: "x" }]);
    const layers = image.layers.map((layer) => ({ ...layer, diffId: `sha256:${"0".repeat(64)}` }));

    await expect(compose({ ...image, layers })).rejects.toThrow(/where the image says sha256:0000/);
  });

  test("what cannot be unpacked", async () => {
    const cut = imageOf([tarOf([{ path: "a", content: "x".repeat(9_000) }])], {
      pack: (archive) => gzipSync(archive).subarray(0, 60),
    });

    await expect(compose(cut)).rejects.toMatchObject({ code: "container_layer_refused" });
  });
});

test("the checksum is CRC-64/ISO, however its bytes come", () => {
  const bytes = Buffer.from("123456789".repeat(99));
  const whole = createCrc64();
  whole.update(bytes);
  const pieces = createCrc64();
  for (let at = 0, size = 1; at < bytes.length; at += size, size = (size * 7) % 23)
    pieces.update(bytes.subarray(at, at + size));
  const known = createCrc64();
  known.update(Buffer.from("123456789"));

  expect(known.digest().toString("hex")).toBe("b90956c775a41001");
  expect(pieces.digest()).toEqual(whole.digest());
});
