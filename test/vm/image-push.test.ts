import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { run } from "../../src/base/process.ts";
import { linkOrCopy } from "../../src/image/durable.ts";
import { pushImage } from "../../src/image/push.ts";
import { createImageStore, type ResolvedImage } from "../../src/image/store.ts";
import { parsePushTarget } from "../../src/registry/reference.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import { testImageDirectory } from "../harness/image.ts";
import { pullImage } from "../harness/pulled-image.ts";
import { startDockerRegistry } from "../servers/docker-registry.ts";

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each[Symbol.asyncDispose]();
});

/** Kind, mode, owner, device, size, time, links and contents of every file below a directory; of directories no times. */
const DESCRIBE = `
cd "$1" || exit
find . -mindepth 1 -type d -printf '%p %y %m %U:%G\\n'
find . ! -type d -printf '%p %y %m %U:%G %n %s %T@ %l\\n'
find . -type f -print0 | sort -z | xargs -0 sha256sum
find . \\( -type c -o -type b \\) -exec stat -c '%n %t:%T' {} +
`;

async function describeTree(directory: string): Promise<string[]> {
  const text = await run("sh", ["-c", DESCRIBE, "sh", directory]);
  return text.trim().split("\n").sort();
}

/** The image in a store of its own, so that the one of all tests stays unpushed. */
async function ownStore(path: string): Promise<{ directory: string; image: ResolvedImage }> {
  const shared = await createImageStore({ directory: testImageDirectory() }).find("base");
  if (!shared) throw new Error("the image is built before the tests");
  const target = join(path, "images", shared.directory.split("/").at(-1) ?? "");
  await mkdir(target, { recursive: true });
  for (const name of await readdir(shared.directory, { withFileTypes: true }))
    if (name.isFile() && !/^(oci|published)\.json$/.test(name.name))
      await linkOrCopy(join(shared.directory, name.name), join(target, name.name));
  const store = createImageStore({ directory: join(path, "images") });
  return { directory: join(path, "images"), image: await store.resolve(shared.manifest.digest) };
}

const isRoot = process.getuid?.() === 0;

// Unpacking makes device nodes and gives files away, which root alone may do. Pushing needs no root.
test.runIf(isRoot)(
  "the base image, pulled and unpacked from a registry, is the image file by file",
  async () => {
    const temporary = await temporaryDirectory();
    const registry = await startDockerRegistry();
    open.push(temporary, registry);
    const { directory, image } = await ownStore(temporary.path);
    const [wanted, found] = [join(temporary.path, "wanted"), join(temporary.path, "found")];

    const { published } = await pushImage(
      {
        directory,
        image: image.digest,
        target: parsePushTarget(`localhost:${registry.port}/fr`),
        dockerConfig: join(temporary.path, "config.json"),
        clock: systemClock,
      },
      () => {},
    );

    const { layers } = await pullImage(published.root, join(temporary.path, "pulled"));
    await mkdir(found);
    for (const layer of layers)
      await run("tar", ["--zstd", "-xp", "--numeric-owner", "--xattrs", "-C", found, "-f", layer]);
    for (const layer of image.layers)
      await run("unsquashfs", ["-no-progress", "-force", "-dest", wanted, layer]);
    const tree = await describeTree(wanted);
    expect(await describeTree(found)).toEqual(tree);
    expect(tree.length).toBeGreaterThan(5_000);
    expect(tree.filter((line) => /^\.\/(builds|cache|usr\/sbin\/firerunner-init) /.test(line))).toHaveLength(
      3,
    );
    expect(tree.some((line) => /^\.\/usr\/lib\/modules\/.*\/modules\.dep /.test(line))).toBe(true);
  },
);
