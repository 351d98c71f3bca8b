import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../base/process.ts";
import { ImageError } from "./errors.ts";
import { extractKernel } from "./kernel.ts";
import type { Distribution, PackageSources } from "./packages.ts";
import { packagesOf, type Variant } from "./packages.ts";
import type { OnProgress } from "./progress.ts";
import { makeSquashfsFromTar } from "./squashfs.ts";

/** Times inside an image are never later than this, so that the same packages always give the same bytes. */
export const IMAGE_EPOCH_S = 1_672_531_200;

const KERNEL_PACKAGES: Record<Distribution, (architecture: string) => string> = {
  debian: (architecture) => `linux-image-cloud-${architecture}`,
  ubuntu: () => "linux-image-virtual",
};

const customizeScript = join(import.meta.dirname, "customize-base.sh");

export interface BaseOptions {
  readonly architecture: string;
  readonly sources: PackageSources;
  readonly variant: Variant;
  /** Beside those of the variant. */
  readonly packages: readonly string[];
  readonly aptOptions: readonly string[];
  /** Of apt and what it starts; by default this program's. Proxies stand here, with their passwords. */
  readonly environment?: NodeJS.ProcessEnv | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface BaseLayer {
  readonly kernelVersion: string;
  readonly packages: Readonly<Record<string, string>>;
}

/** Everything that decides what is in a base layer, apart from the packages' own versions. */
export async function baseIngredients(options: BaseOptions): Promise<unknown> {
  const { architecture, sources, variant, packages } = options;
  return {
    architecture,
    suite: sources.suite,
    build: sources.build,
    guest: sources.guest,
    // Our own too: a FireRunner that needs more in its machines must not take the layer of the one before.
    packages: [...packagesOf(variant), ...packages],
    epoch: IMAGE_EPOCH_S,
    customize: await readFile(customizeScript, "utf8"),
  };
}

/** Makes `base.squashfs` and `vmlinux` in `directory`. */
export async function buildBaseLayer(
  directory: string,
  options: BaseOptions,
  onProgress: OnProgress,
): Promise<BaseLayer> {
  const tar = join(directory, "base.tar");
  await bootstrap(tar, directory, options, onProgress);
  onProgress({ phase: "base", line: "Packing the root file system" });
  await makeSquashfsFromTar(tar, join(directory, "base.squashfs"), IMAGE_EPOCH_S, options.signal);
  onProgress({ phase: "kernel", line: "Taking the kernel out of its package" });
  const vmlinuz = join(directory, "vmlinuz");
  await writeFile(join(directory, "vmlinux"), extractKernel(await readFile(vmlinuz), options.architecture));
  const kernelVersion = (await readFile(join(directory, "release"), "utf8")).trim();
  const packages = parsePackages(await readFile(join(directory, "packages"), "utf8"));
  for (const name of ["base.tar", "vmlinuz", "release", "packages"]) await rm(join(directory, name));
  return { kernelVersion, packages };
}

async function bootstrap(
  tar: string,
  directory: string,
  options: BaseOptions,
  onProgress: OnProgress,
): Promise<void> {
  const { sources, variant, packages, aptOptions, architecture, signal } = options;
  const variables = [
    `kernel_package=${quote(KERNEL_PACKAGES[sources.distribution](architecture))}`,
    `guest_sources=${quote(`${sources.guest.join("\n")}\n`)}`,
  ];
  const customize = [...variables, await readFile(customizeScript, "utf8")].join("\n");
  const takeOut = (name: string) => `download /firerunner-kernel/${name} ${quote(join(directory, name))}`;
  const hooks = [
    customize,
    ...["vmlinuz", "release", "packages"].map(takeOut),
    'rm -r "$1/firerunner-kernel"',
  ];
  const mmdebstrap = [
    "mmdebstrap",
    "--variant=minbase",
    "--format=tar",
    `--architectures=${architecture}`,
    `--include=${[...packagesOf(variant), ...packages].join(",")}`,
    ...aptOptions.map((option) => `--aptopt=${option}`),
    ...hooks.map((hook) => `--customize-hook=${hook}`),
    ...[sources.suite, tar, ...sources.build],
  ];
  try {
    await run(
      "setpriv",
      [
        "--pdeathsig",
        isRoot() ? "KILL" : "TERM",
        ...ownNamespaces(),
        "env",
        ...buildEnvironment(directory),
        ...mmdebstrap,
      ],
      {
        onStderrLine: (line) => reportLine(line, onProgress),
        ...(signal ? { signal } : {}),
        ...(options.environment ? { env: options.environment } : {}),
      },
    );
  } catch (cause) {
    signal?.throwIfAborted();
    throw bootstrapError(cause);
  }
}

/**
 * As root everything happens below `directory`, so that a killed build leaves nothing elsewhere. Without root, the
 * user that mmdebstrap maps itself to may not be able to enter it, so the system's place for such files is used.
 */
function buildEnvironment(directory: string): string[] {
  return [
    `SOURCE_DATE_EPOCH=${IMAGE_EPOCH_S}`,
    "LC_ALL=C.UTF-8",
    ...(isRoot() ? [`TMPDIR=${directory}`] : []),
  ];
}

/**
 * mmdebstrap, when it is root, mounts the host's /dev/shm, /proc and /sys in the new root, and leaves them there, and dpkg
 * running, when it is killed. In namespaces of its own nobody else ever sees those mounts, and all of it ends with its first
 * process. Without root it makes such namespaces itself.
 */
function ownNamespaces(): string[] {
  if (!isRoot()) return [];
  return [
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
  ];
}

function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** mmdebstrap's own milestones, about how far each is through the work, and the same in our words. */
const milestones: readonly (readonly [RegExp, number, string])[] = [
  [/running apt-get update/, 0.02, "Reading the package lists"],
  [/downloading packages/, 0.15, "Downloading packages"],
  [/extracting archives/, 0.3, "Unpacking the essential packages"],
  [/installing essential/, 0.4, "Installing the essential packages"],
  [/installing remaining/, 0.55, "Installing the other packages"],
  [/running --customize-hook.*kernel_package/, 0.8, "Unpacking the kernel and its modules"],
  [/cleaning package lists/, 0.93, "Cleaning up"],
  [/creating tarball/, 0.95, "Collecting the files"],
];

function reportLine(line: string, onProgress: OnProgress): void {
  const milestone = milestones.find(([pattern]) => pattern.test(line));
  if (milestone) onProgress({ phase: "packages", line: milestone[2], fraction: milestone[1] });
  else if (line.startsWith("E: ")) onProgress({ phase: "packages", line });
}

function bootstrapError(cause: unknown): ImageError {
  const text = cause instanceof Error ? cause.message : "";
  const unreachable = /Could not (resolve|connect)|Temporary failure|Unable to connect|timed out/i.test(text);
  const full = /No space left on device/i.test(text);
  const hint = unreachable
    ? "the package mirror cannot be reached: check the network, or configure images.sources with one that can"
    : full
      ? "free some disk space and build again"
      : /newuidmap|subuid|unshare/i.test(text)
        ? "building without root needs user namespaces: install uidmap and give this user ranges in /etc/subuid and /etc/subgid, or build as root"
        : "the lines above are mmdebstrap's own; `firerunner doctor` checks what building needs";
  return new ImageError(
    full ? "image_no_space" : "image_build_failed",
    "the base root file system could not be made",
    {
      cause,
      hint,
      retryable: unreachable,
    },
  );
}

function parsePackages(text: string): Record<string, string> {
  const pairs = text
    .split("\n")
    .filter(Boolean)
    .map((line) => line.split(" ") as [string, string]);
  return Object.fromEntries(pairs.sort(([a], [b]) => (a < b ? -1 : 1)));
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
