import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { hashFile } from "../../src/base/durable-file.ts";
import { type ImageManifest, imageDigest, sha256, shortDigest } from "../../src/image/manifest.ts";
import { makeSquashfsFromTar } from "../../src/image/squashfs.ts";
import { createImageStore } from "../../src/image/store.ts";
import { type TestEntry, tarOf } from "./tar.ts";

const baseEntries: readonly TestEntry[] = [
  { path: "./bin", type: "2", link: "usr/bin" },
  { path: "./dev/", type: "5", mode: 0o755 },
  { path: "./dev/null", type: "3", device: [1, 3], mode: 0o666 },
  { path: "./etc/", type: "5", mode: 0o755 },
  { path: "./etc/removed", content: "of the base" },
  { path: "./home/", type: "5", mode: 0o700, owner: [1000, 100] },
  { path: "./home/note", content: "mine", mode: 0o600, owner: [1000, 100], xattrs: { "user.note": "kept" } },
  { path: "./usr/", type: "5", mode: 0o755 },
  { path: "./usr/bin/", type: "5", mode: 0o755 },
  { path: "./usr/bin/su", content: "#!/bin/true", mode: 0o4755 },
  { path: "./usr/bin/su-too", type: "1", link: "./usr/bin/su" },
];

export const upperEntries: readonly TestEntry[] = [
  { path: "./builds/", type: "5", mode: 0o755 },
  { path: "./etc/", type: "5", mode: 0o755 },
  { path: "./etc/removed", type: "3", device: [0, 0], mode: 0 },
  { path: "./sbin-init", content: "init", mode: 0o755 },
];

/** An image of a few files in the store `directory`, under a name. The kernel is as long and as dense as asked for. */
export async function storeImage(
  directory: string,
  name: string,
  content: {
    readonly kernel: Buffer;
    readonly upper?: readonly TestEntry[];
    /** Its machines run containers. */
    readonly containerInfo?: Record<string, unknown>;
    /** What its runner says of itself. */
    readonly runnerInfo?: Record<string, unknown>;
  },
): Promise<ImageManifest> {
  const work = join(directory, `work-${name}`);
  await mkdir(work, { recursive: true });
  const at = (file: string) => join(work, file);
  await writeFile(at("vmlinux"), content.kernel);
  await writeFile(at("initramfs.gz"), "initramfs");
  await makeLayer(at("base.squashfs"), baseEntries);
  await makeLayer(at("runner.squashfs"), content.upper ?? upperEntries);
  const file = async (path: string) => ({ path, ...(await hashFile(at(path))) });
  const files = {
    kernel: await file("vmlinux"),
    initramfs: await file("initramfs.gz"),
    layers: [await file("base.squashfs"), await file("runner.squashfs")],
  };
  const manifest: ImageManifest = {
    schema: 1,
    digest: imageDigest(files),
    architecture: "amd64",
    suite: "bookworm",
    variant: "base",
    kernelVersion: "6.1",
    files,
    runner: {
      ...{ kind: "stand-in", version: "1", sha256: sha256("r"), info: content.runnerInfo ?? {} },
      ...(content.containerInfo ? { containerInfo: content.containerInfo } : {}),
    },
    packages: {},
    recipes: { base: sha256("b"), image: sha256("i") },
    builtWith: {},
    createdAt: 0,
    abilities: [],
  };
  await writeFile(at("image.json"), JSON.stringify(manifest));
  await rename(work, join(directory, shortDigest(manifest.digest)));
  await createImageStore({ directory }).setName(name, manifest.digest);
  return manifest;
}

async function makeLayer(target: string, entries: readonly TestEntry[]): Promise<void> {
  await writeFile(`${target}.tar`, tarOf(entries));
  await makeSquashfsFromTar(`${target}.tar`, target, 1_600_000_000, undefined);
}
