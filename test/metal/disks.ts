/** The disks of the emulated host. Each is made once per content and kept beside the images. */
import { createHash } from "node:crypto";
import { access, chmod, cp, mkdir, mkdtemp, readFile, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { run } from "../../src/base/process.ts";
import { buildImage } from "../../src/image/build.ts";
import { ImagesConfig } from "../../src/image/config.ts";
import { linkOrCopy } from "../../src/image/durable.ts";
import { createImageStore, type ResolvedImage } from "../../src/image/store.ts";
import { testImageDirectory } from "../harness/image.ts";

const root = join(import.meta.dirname, "../..");
/** Cheap to unpack: what reads it is emulated. */
const PACKING = [
  "-all-root",
  "-no-xattrs",
  "-quiet",
  "-no-progress",
  "-comp",
  "zstd",
  "-Xcompression-level",
  "2",
];

/** A Debian with these packages, made by the project's own image builder. */
export async function hostSystem(name: string, packages: readonly string[]): Promise<ResolvedImage> {
  const { image } = await buildImage(
    {
      directory: testImageDirectory(),
      ...{ name, variant: "base" as const },
      config: ImagesConfig.parse({ packages }),
      runner: { kind: "stand-in" },
      clock: systemClock,
    },
    ({ line }) => line === undefined || console.error(`${name}: ${line}`),
  );
  return image;
}

/** The layer that makes a Debian the emulated host: its first program, and what else is to be in `PATH`. */
export async function hostLayer(programs: readonly string[]): Promise<string> {
  const files = [
    { source: join(import.meta.dirname, "metal-init"), target: "usr/sbin/firerunner-init" },
    ...programs.map((source) => ({ source, target: `usr/local/bin/${basename(source)}` })),
  ];
  const contents = await Promise.all(files.map(async ({ source }) => await readFile(source)));
  return await packed("host", [...files.map(({ target }) => target), ...contents], async (tree) => {
    for (const folder of ["builds", "cache"]) await mkdir(join(tree, folder), { recursive: true });
    for (const { source, target } of files) {
      await mkdir(dirname(join(tree, target)), { recursive: true });
      await cp(source, join(tree, target));
      await chmod(join(tree, target), 0o755);
    }
    return [];
  });
}

/** The libraries that the tests inside need, without those that only people and builds use. */
export async function librariesDisk(): Promise<string> {
  const lock = await readFile(join(root, "node_modules/.package-lock.json"));
  const tools = ["@biomejs", "@electric-sql", "@oxc-parser", "@typescript", "knip", "typescript"];
  const left = tools.concat("@bufbuild/buf", "@bufbuild/buf-linux-x64", "@bufbuild/buf-linux-arm64");
  return await packed("libraries", [lock, ...left], async () => {
    const source = join(root, "node_modules");
    return [source, "-e", ...left.map((name) => join(source, name)), "-no-duplicates"];
  });
}

/** This checkout as it is now; `node_modules` in it is a place to mount the libraries on. */
export async function checkoutDisk(): Promise<string> {
  const files = await run("git", ["ls-files", "-z", "--cached", "--others", "--exclude-standard"], {
    cwd: root,
  });
  const wanted = files
    .split("\0")
    .filter((path) => /^(src|test|packages|guest|bin|package\.json|tsconfig\.json)/.test(path));
  const contents = await Promise.all(
    wanted.map(async (path) => await readFile(join(root, path)).catch(() => "")),
  );
  return await packed("checkout", [...wanted, ...contents], async (tree) => {
    await mkdir(join(tree, "node_modules"));
    await run("cp", ["--parents", "-t", tree, ...wanted], { cwd: root });
    return [];
  });
}

/** The images that machines inside boot, laid out as in the cache of this computer. */
export async function imagesDisk(name: string, tinyKernel: string): Promise<string> {
  const store = createImageStore({ directory: testImageDirectory() });
  const found = await store.find(name);
  if (!found) throw new Error(`there is no image ${name}`);
  const tiny = dirname(tinyKernel);
  return await packed("images", [found.manifest.digest, tiny], async (tree) => {
    const kept = join(tree, "images", basename(found.directory));
    await mkdir(kept, { recursive: true });
    const { kernel, initramfs, layers } = found.manifest.files;
    for (const file of ["image.json", kernel.path, initramfs.path, ...layers.map(({ path }) => path)])
      await linkOrCopy(join(found.directory, file), join(kept, file));
    await cp(tiny, join(tree, "test-tiny", basename(tiny)), { recursive: true });
    await createImageStore({ directory: join(tree, "images") }).setName(name, found.manifest.digest);
    return [];
  });
}

/** Packs what `fill` puts into a tree (or the sources it names) unless the same content was packed before. */
async function packed(
  kind: string,
  content: readonly (string | Buffer)[],
  fill: (tree: string) => Promise<readonly string[]>,
): Promise<string> {
  const hash = createHash("sha256").update(PACKING.join());
  for (const part of content) hash.update(String(part.length)).update(part);
  const parent = join(dirname(testImageDirectory()), "test-metal");
  const target = join(parent, `${kind}-${hash.digest("hex").slice(0, 16)}.squashfs`);
  if (
    await access(target).then(
      () => true,
      () => false,
    )
  )
    return target;
  await mkdir(parent, { recursive: true });
  const work = await mkdtemp(join(parent, `${kind}-`));
  try {
    const tree = join(work, "tree");
    await mkdir(tree);
    const [source = tree, ...more] = await fill(tree);
    await chmod(tree, 0o755);
    await run("mksquashfs", [source, join(work, "disk"), ...PACKING, "-root-mode", "0755", ...more]);
    await rename(join(work, "disk"), target);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
  return target;
}
