/**
 * Builds an image: base layer (Debian), runner layer (runner and init), kernel, initramfs, image.json. Each is made from a
 * recipe; what has been made from an equal recipe before is not made again, so that another runner or another init costs
 * seconds and not a minute. Nothing of an image is visible before all of it is on disk.
 */
import { chmod, copyFile, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { hashFile } from "../base/durable-file.ts";
import { run } from "../base/process.ts";
import type { ProxyRoutes } from "../base/proxy/routes.ts";
import { abilitiesOf, abilityNames } from "../domain/images.ts";
import { type BaseLayer, type BaseOptions, baseIngredients, buildBaseLayer } from "./base-layer.ts";
import { openBuildDirectory, requireBuildSpace, requireTools } from "./build-directory.ts";
import type { ImagesConfig } from "./config.ts";
import { linkOrCopy, moveIntoPlace, removeTree } from "./durable.ts";
import { ImageError } from "./errors.ts";
import { buildInitramfs } from "./initramfs.ts";
import {
  type ImageFile,
  type ImageManifest,
  imageDigest,
  MANIFEST_SCHEMA,
  sha256,
  shortDigest,
} from "./manifest.ts";
import {
  chooseContainersSources,
  choosePackageSources,
  parseHostRelease,
  parseIndexTargets,
  runsContainers,
  type Variant,
} from "./packages.ts";
import type { OnProgress } from "./progress.ts";
import {
  buildRunnerLayer,
  type ChosenRunner,
  chooseRunner,
  type RunnerChoice,
  runnerLayerIngredients,
} from "./runner.ts";
import { captureRunnerInfo } from "./runner-info.ts";
import type { RunnerRelease } from "./runner-release.ts";
import { createImageStore, type ImageStore, type ListedImage, type ResolvedImage } from "./store.ts";

export interface BuildOptions {
  /** Where images are kept; made when it is not there. */
  readonly directory: string;
  readonly name: string;
  readonly variant?: Variant;
  readonly config: ImagesConfig;
  readonly runner: RunnerChoice;
  /** The official runner, if not that which this program is made for. */
  readonly release?: RunnerRelease;
  /** Build everything anew, with the newest packages. */
  readonly force?: boolean;
  /** Through which proxies downloads come; by default through none. */
  readonly proxies?: ProxyRoutes;
  /** Of apt and what it starts; by default this program's. */
  readonly environment?: NodeJS.ProcessEnv;
  readonly clock: Clock;
  readonly signal?: AbortSignal;
}

export interface BuiltImage {
  readonly image: ResolvedImage;
  readonly manifest: ImageManifest;
  /** False when an image from the same recipe was there already. */
  readonly built: boolean;
  /** What people should know about it, such as that it holds the stand-in runner and why. */
  readonly notes: readonly string[];
}

/** Raised whenever the code here makes something else from the same ingredients. */
const RECIPE_VERSION = 2;

const FILE_NAMES = {
  kernel: "vmlinux",
  initramfs: "initramfs.gz",
  base: "base.squashfs",
  runner: "runner.squashfs",
} as const;

export async function buildImage(options: BuildOptions, onProgress: OnProgress): Promise<BuiltImage> {
  const { directory, name, signal } = options;
  onProgress({ phase: "check", line: "Looking at what is here" });
  const base = await baseOptions(options);
  const store = createImageStore({ directory });
  const baseRecipe = sha256(JSON.stringify([RECIPE_VERSION, await baseIngredients(base)]));
  const layer = await runnerLayerIngredients(base.variant);
  const recipeWith = (runner: string) =>
    sha256(JSON.stringify([RECIPE_VERSION, baseRecipe, runner, layer, abilityNames]));
  const known = options.force ? [] : await soundImages(store, onProgress);
  const isBuilt = (runner: string) =>
    known.some(({ manifest }) => manifest.recipes.image === recipeWith(runner));
  const runner = await chooseRunner(options.runner, { ...options, ...base, isBuilt }, onProgress);
  const recipes = { base: baseRecipe, image: recipeWith(runner.sha256) };
  const same = known.find(({ manifest }) => manifest.recipes.image === recipes.image);
  if (!same) await makeImage({ options, base, runner, recipes, known, store }, onProgress);
  else await store.setName(name, same.manifest.digest);
  const { image, manifest } = same
    ? { image: await store.resolve(name), manifest: same.manifest }
    : await store.verify(name, signal);
  onProgress({ phase: "done", fraction: 1, line: `Image ${name} is ${manifest.digest}` });
  return { image, manifest, built: same === undefined, notes: runner.notes };
}

interface Making {
  readonly options: BuildOptions;
  readonly base: BaseOptions;
  readonly runner: ChosenRunner;
  readonly recipes: ImageManifest["recipes"];
  readonly known: readonly ListedImage[];
  readonly store: ImageStore;
}

async function makeImage(making: Making, onProgress: OnProgress): Promise<void> {
  const { options, base, runner, recipes, store } = making;
  await requireTools();
  const workshop = await openBuildDirectory(options.directory);
  try {
    await requireBuildSpace(workshop, base.variant);
    const { kernelVersion, packages } = await provideBase(making, workshop, onProgress);
    onProgress({ phase: "kernel", line: `Making the initramfs for kernel ${kernelVersion}` });
    const baseFile = join(workshop, FILE_NAMES.base);
    const initramfs = await buildInitramfs(baseFile, kernelVersion, workshop, { signal: options.signal });
    await writeFile(join(workshop, FILE_NAMES.initramfs), initramfs);
    onProgress({ phase: "runner", line: "Asking the runner what it can do" });
    const program = await takeRunner(runner, workshop);
    const { version, ...runnerSays } = await askRunner(program, base.variant, options.signal);
    const layer = { runner: program, variant: base.variant, architecture: base.architecture };
    await buildRunnerLayer(join(workshop, FILE_NAMES.runner), layer, workshop, options.signal);
    onProgress({ phase: "store", line: "Storing the image" });
    await keepOnly(workshop, Object.values(FILE_NAMES));
    const files = await describeFiles(workshop);
    const manifest: ImageManifest = {
      schema: MANIFEST_SCHEMA,
      digest: imageDigest(files),
      architecture: base.architecture,
      suite: base.sources.suite,
      variant: base.variant,
      kernelVersion,
      files,
      runner: { kind: runner.kind, version, sha256: runner.sha256, ...runnerSays },
      packages,
      recipes,
      builtWith: await toolVersions(),
      createdAt: options.clock.now(),
      abilities: abilitiesOf(base.variant),
    };
    await writeFile(join(workshop, "image.json"), `${JSON.stringify(manifest, null, 2)}\n`);
    await publish(workshop, manifest, options, store);
  } finally {
    // An aborted tool may still be writing; what is left then is removed by the next build.
    await removeTree(workshop).catch(() => {});
  }
}

/** The runner as it was chosen, where nobody else can change it: what is asked, and what the image gets, is this very file. */
async function takeRunner({ path, sha256: chosen }: ChosenRunner, workshop: string): Promise<string> {
  const program = join(workshop, "runner");
  await copyFile(path, program);
  await chmod(program, 0o755);
  if ((await hashFile(program)).sha256 === chosen) return program;
  throw new ImageError("image_runner_broken", `the runner ${path} was changed while the image was built`, {
    hint: "build again, and let nobody else write to it",
  });
}

/** What the runner says it can do, in a shell and, in an image for that, in containers. */
async function askRunner(program: string, variant: Variant, signal: AbortSignal | undefined) {
  const { version, info } = await captureRunnerInfo(program, { signal });
  if (!runsContainers(variant)) return { version, info };
  const inContainers = await captureRunnerInfo(program, { executor: "docker", signal });
  return { version, info, containerInfo: inContainers.info };
}

/** The base layer and the kernel: those of an image made from the same recipe, or new ones. */
async function provideBase(making: Making, workshop: string, onProgress: OnProgress): Promise<BaseLayer> {
  const same = making.known.find(({ manifest }) => manifest.recipes.base === making.recipes.base);
  if (!same) return await buildBaseLayer(workshop, making.base, onProgress);
  onProgress({ phase: "packages", fraction: 1, line: "The base layer has been built before" });
  for (const name of [FILE_NAMES.base, FILE_NAMES.kernel])
    await linkOrCopy(join(same.directory, name), join(workshop, name));
  return { kernelVersion: same.manifest.kernelVersion, packages: same.manifest.packages };
}

async function publish(
  workshop: string,
  manifest: ImageManifest,
  options: BuildOptions,
  store: ImageStore,
): Promise<void> {
  for (const name of await readdir(workshop)) await chmod(join(workshop, name), 0o644);
  await chmod(workshop, 0o755);
  const target = join(options.directory, shortDigest(manifest.digest));
  const isSound = await store.verify(manifest.digest).then(
    () => true,
    () => false,
  );
  // A broken image of the same digest makes way; what it was is removed with the workshop of the next build.
  if (!isSound) await rename(target, `${workshop}-broken`).catch(() => {});
  await moveIntoPlace(workshop, target);
  await removeTree(`${workshop}-broken`);
  await store.seal(manifest.digest);
  await store.setName(options.name, manifest.digest);
}

/** Images whose files are whole. A broken one is not built upon: it is named, and made again if it is asked for. */
async function soundImages(store: ImageStore, onProgress: OnProgress): Promise<ListedImage[]> {
  const sound: ListedImage[] = [];
  for (const image of await store.list()) {
    try {
      await store.resolve(image.manifest.digest);
      sound.push(image);
    } catch (error) {
      onProgress({ phase: "check", line: (error as Error).message });
    }
  }
  return sound;
}

async function keepOnly(directory: string, names: readonly string[]): Promise<void> {
  for (const name of await readdir(directory))
    if (!names.includes(name)) await removeTree(join(directory, name));
}

async function describeFiles(directory: string): Promise<ImageManifest["files"]> {
  const describe = async (path: string): Promise<ImageFile> => ({
    path,
    ...(await hashFile(join(directory, path))),
  });
  return {
    kernel: await describe(FILE_NAMES.kernel),
    initramfs: await describe(FILE_NAMES.initramfs),
    layers: [await describe(FILE_NAMES.base), await describe(FILE_NAMES.runner)],
  };
}

async function baseOptions(options: BuildOptions): Promise<BaseOptions> {
  const { config, signal } = options;
  const host = parseHostRelease(await readFile("/etc/os-release", "utf8").catch(() => ""));
  const configured = config.sources.length > 0 ? config.sources : undefined;
  const targets = configured ? [] : parseIndexTargets(await askApt(["indextargets", "Created-By: Packages"]));
  const { variant = "base" } = options;
  return {
    architecture: hostArchitecture(),
    sources: runsContainers(variant)
      ? chooseContainersSources(host, targets, configured)
      : choosePackageSources(host, targets, { suite: config.suite, configured }),
    variant,
    packages: [...config.packages].sort(),
    aptOptions: await aptProxyOptions(),
    environment: options.environment,
    signal,
  };
}

function hostArchitecture(): string {
  if (process.arch === "x64") return "amd64";
  if (process.arch === "arm64") return "arm64";
  throw new ImageError("image_build_failed", `images cannot be built on ${process.arch}`);
}

async function askApt(args: readonly string[]): Promise<string> {
  try {
    return await run("apt-get", args);
  } catch (cause) {
    throw new ImageError(
      "image_no_sources",
      "apt on this computer could not be asked for its package sources",
      {
        cause,
        hint: "configure images.sources, such as: deb http://MIRROR/debian bookworm main",
      },
    );
  }
}

/** A proxy that the host's apt goes through is needed for building, too. It does not stay in the image. */
async function aptProxyOptions(): Promise<string[]> {
  const dump = await run("apt-config", ["dump", "Acquire"]).catch(() => "");
  return dump.split("\n").filter((line) => /^Acquire::https?::Proxy\S* "[^"]+";$/i.test(line));
}

async function toolVersions(): Promise<Record<string, string>> {
  const firstLine = async (tool: string, ...args: string[]) => {
    const output = await run(tool, args).catch(() => "");
    return output.split("\n")[0]?.trim() ?? "";
  };
  return {
    mmdebstrap: await firstLine("mmdebstrap", "--version"),
    mksquashfs: await firstLine("mksquashfs", "-version"),
    node: process.version,
  };
}
