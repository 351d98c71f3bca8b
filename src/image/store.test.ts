import {
  appendFileSync,
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type ImageManifest, imageDigest, sha256, shortDigest } from "./manifest.ts";
import { imageNotes } from "./open-images.ts";
import { createImageStore } from "./store.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "images-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

/** A small image, whole and right, stored as a build stores it. */
function anImage(kernel = "kernel"): { path: string; manifest: ImageManifest } {
  const contents = {
    vmlinux: kernel,
    "initramfs.gz": "i",
    "base.squashfs": "base",
    "runner.squashfs": "runner",
  };
  const file = (path: keyof typeof contents) => ({
    path,
    bytes: contents[path].length,
    sha256: sha256(contents[path]),
  });
  const files = {
    kernel: file("vmlinux"),
    initramfs: file("initramfs.gz"),
    layers: [file("base.squashfs"), file("runner.squashfs")],
  };
  const manifest: ImageManifest = {
    schema: 1,
    digest: imageDigest(files),
    architecture: "amd64",
    suite: "bookworm",
    variant: "base",
    kernelVersion: "6.1",
    files,
    runner: { kind: "stand-in", version: "1", sha256: sha256("r"), info: { name: "x" } },
    packages: {},
    recipes: { base: sha256("b"), image: sha256("i") },
    builtWith: {},
    createdAt: 0,
    abilities: [],
  };
  const path = join(directory, shortDigest(manifest.digest));
  mkdirSync(path, { recursive: true });
  for (const [name, content] of Object.entries(contents)) writeFileSync(join(path, name), content);
  writeFileSync(join(path, "image.json"), JSON.stringify(manifest));
  return { path, manifest };
}

const store = () => createImageStore({ directory });

describe("an image", () => {
  test("is found by its name, its digest and the beginning of its digest", async () => {
    const { path, manifest } = anImage();
    await store().setName("base", manifest.digest);

    for (const name of ["base", manifest.digest, shortDigest(manifest.digest)])
      expect(await store().resolve(name)).toEqual({
        digest: manifest.digest,
        architecture: "amd64",
        kernel: join(path, "vmlinux"),
        initramfs: join(path, "initramfs.gz"),
        layers: [join(path, "base.squashfs"), join(path, "runner.squashfs")],
        runner: { kind: "stand-in", version: "1" },
        runnerInfo: { name: "x" },
        ...{ abilities: [], variant: "base" },
      });
  });

  test("that is not there is an error that says how to build it", async () => {
    for (const name of ["base", `sha256:${"0".repeat(64)}`])
      await expect(store().resolve(name)).rejects.toMatchObject({
        code: "image_missing",
        hint: expect.stringContaining("firerunner image build"),
      });
  });

  test("can have no name that is a path", async () => {
    for (const name of ["../../etc/passwd", "a/b", "", ".hidden"])
      await expect(store().resolve(name)).rejects.toMatchObject({ code: "image_missing" });
  });

  test.each([
    ["of another length", (path: string) => appendFileSync(path, "x")],
    ["of other bytes", (path: string) => writeFileSync(path, "other!")],
    ["that is empty", (path: string) => truncateSync(path, 0)],
    ["that is gone", (path: string) => rmSync(path)],
  ])("with a file %s is corrupt", async (_, damage) => {
    const { path, manifest } = anImage();

    damage(join(path, "vmlinux"));

    await expect(store().resolve(manifest.digest)).rejects.toMatchObject({
      code: "image_corrupt",
      message: expect.stringContaining("vmlinux"),
      hint: expect.stringContaining("--force"),
    });
    await expect(store().verify(manifest.digest)).rejects.toMatchObject({ code: "image_corrupt" });
  });

  test("that was right is looked at again when a file changes", async () => {
    const { path, manifest } = anImage();
    const same = store();
    await same.resolve(manifest.digest);

    writeFileSync(join(path, "base.squashfs"), "evil");

    await expect(same.resolve(manifest.digest)).rejects.toMatchObject({ code: "image_corrupt" });
  });

  test("whose times only changed is still right", async () => {
    const { path, manifest } = anImage();
    const same = store();
    await same.resolve(manifest.digest);

    utimesSync(join(path, "base.squashfs"), 1, 1);

    expect(await same.resolve(manifest.digest)).toMatchObject({ digest: manifest.digest });
  });

  test.each([
    ["not JSON", "{"],
    ["of another kind", "{}"],
    ["of a later version", JSON.stringify({ schema: 2 })],
  ])("whose image.json is %s is corrupt", async (_, text) => {
    const { path, manifest } = anImage();

    writeFileSync(join(path, "image.json"), text);

    await expect(store().resolve(manifest.digest)).rejects.toMatchObject({ code: "image_corrupt" });
  });

  /** Puts another image.json there, and what it names. */
  function replace(path: string, manifest: ImageManifest, change: Partial<ImageManifest>): void {
    writeFileSync(join(path, "image.json"), JSON.stringify({ ...manifest, ...change }));
  }

  test("whose image.json names other files than its digest is corrupt", async () => {
    const { path, manifest } = anImage();
    writeFileSync(join(path, "vmlinux"), "evil!!");
    const kernel = { ...manifest.files.kernel, sha256: sha256("evil!!") };

    replace(path, manifest, { files: { ...manifest.files, kernel } });

    for (const look of [store().resolve, store().verify])
      await expect(look(manifest.digest)).rejects.toMatchObject({
        code: "image_corrupt",
        message: expect.stringContaining("its digest is not that of the files it names"),
      });
  });

  test("whose image.json is right for other files is not the image of that name", async () => {
    const { path, manifest } = anImage();
    await store().setName("base", manifest.digest);
    writeFileSync(join(path, "vmlinux"), "evil!!");
    const files = { ...manifest.files, kernel: { ...manifest.files.kernel, sha256: sha256("evil!!") } };

    replace(path, manifest, { files, digest: imageDigest(files) });

    await expect(store().resolve("base")).rejects.toMatchObject({
      code: "image_corrupt",
      message: expect.stringContaining("describes another image"),
    });
  });

  test("whose image.json says something else than it did when it was built is corrupt", async () => {
    const { path, manifest } = anImage();
    await store().seal(manifest.digest);
    expect(await store().resolve(manifest.digest)).toMatchObject({ runner: { kind: "stand-in" } });

    replace(path, manifest, { runner: { ...manifest.runner, kind: "official" } });

    for (const look of [store().resolve, store().verify])
      await expect(look(manifest.digest)).rejects.toMatchObject({
        code: "image_corrupt",
        message: expect.stringContaining("was changed after the image was built"),
      });
  });

  test.runIf(process.getuid?.() === 0).each([
    ["a file of it", (path: string) => chmodSync(join(path, "vmlinux"), 0o666)],
    ["its image.json", (path: string) => chownSync(join(path, "image.json"), 1234, 0)],
    ["its directory", (path: string) => chmodSync(path, 0o777)],
    ["the directory of all", () => chmodSync(directory, 0o777)],
    ["its name", () => chmodSync(join(directory, "names/base"), 0o666)],
  ])("is refused when others may change %s", async (_, open) => {
    const { path, manifest } = anImage();
    await store().setName("base", manifest.digest);

    open(path);

    await expect(store().resolve("base")).rejects.toMatchObject({
      code: "untrusted_file",
      hint: expect.stringMatching(/ch(mod go-w|own root) \S+$/),
    });
  });
});

describe("the list of images", () => {
  test("is empty where nothing was ever built", async () => {
    expect(await createImageStore({ directory: join(directory, "none") }).list()).toEqual([]);
  });

  test("has every whole image with its names, and nothing half-built or damaged", async () => {
    const first = anImage("first");
    const second = anImage("second");
    await store().setName("base", first.manifest.digest);
    await store().setName("old", first.manifest.digest);
    cpSync(first.path, join(directory, ".build-1-2-abc"), { recursive: true });
    mkdirSync(join(directory, "0123456789ab"));
    mkdirSync(join(directory, "downloads"));

    const images = await store().list();

    const found = Object.fromEntries(images.map((image) => [image.manifest.digest, image.names]));
    expect(found).toEqual({ [first.manifest.digest]: ["base", "old"], [second.manifest.digest]: [] });
    expect(images[0]?.bytes).toBeGreaterThan(0);
  });

  test("follows a name that is given to another image", async () => {
    const first = anImage("first");
    const second = anImage("second");
    await store().setName("base", first.manifest.digest);

    await store().setName("base", second.manifest.digest);

    expect((await store().find("base"))?.manifest.digest).toBe(second.manifest.digest);
  });
});

test("an image of before abilities were written down is good, and has none; what a later release adds is passed over", async () => {
  const { manifest, path } = anImage();
  const { abilities: _, ...before } = manifest;

  writeFileSync(join(path, "image.json"), JSON.stringify(before));
  const old = await store().resolve(manifest.digest);
  writeFileSync(
    join(path, "image.json"),
    JSON.stringify({ ...manifest, abilities: ["lfs", "of-tomorrow"], more: 1 }),
  );
  const later = await store().resolve(manifest.digest);

  expect([old.abilities, later.abilities]).toEqual([[], ["lfs", "of-tomorrow"]]);
});

test("what named images lack is told with the command that builds each", async () => {
  const { manifest } = anImage();
  await store().setName("builds", manifest.digest);

  const notes = await imageNotes(
    store(),
    new Map([
      ["builds", ["lfs"]],
      ["not-here", ["lfs"]],
    ]),
  );

  expect(notes).toEqual([
    {
      problem: expect.stringContaining("the image builds was built by an earlier release (it lacks lfs)"),
      hint: expect.stringContaining("firerunner image build --name builds"),
    },
  ]);
});
