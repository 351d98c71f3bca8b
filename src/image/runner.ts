/** The runner of an image: which one it is (`chooseRunner`), and the layer that puts it into the image (`buildRunnerLayer`). */
import { access, chmod, constants, copyFile, mkdir, readdir, readFile, rm, symlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { hashFile } from "../base/durable-file.ts";
import { describeError } from "../base/errors.ts";
import { guestFile } from "../base/guest-files.ts";
import type { ProxyRoutes } from "../base/proxy/routes.ts";
import { IMAGE_EPOCH_S } from "./base-layer.ts";
import type { ImagesConfig } from "./config.ts";
import { ImageError, type ImageErrorCode } from "./errors.ts";
import { writeHelperStore } from "./helper-store.ts";
import { type RunnerKind, sha256 } from "./manifest.ts";
import { runsContainers, type Variant } from "./packages.ts";
import type { OnProgress } from "./progress.ts";
import {
  isDownloaded,
  officialRunner,
  type ReleaseOptions,
  RUNNER_RELEASE,
  type RunnerRelease,
} from "./runner-release.ts";
import { makeSquashfsFromDirectory } from "./squashfs.ts";

/** `auto`: the official release, or the stand-in when that cannot be had here. For trying things out. */
export type RunnerChoice =
  | { readonly kind: "auto" | "official" | "stand-in" }
  | { readonly kind: "path"; readonly path: string };

export interface ChosenRunner {
  readonly kind: RunnerKind;
  readonly path: string;
  readonly sha256: string;
  readonly notes: readonly string[];
}

interface RunnerContext {
  readonly directory: string;
  readonly architecture: string;
  readonly config: ImagesConfig;
  /** The official one, if not that which this program is made for. */
  readonly release?: RunnerRelease | undefined;
  /** Through which proxies it is downloaded; by default through none. */
  readonly proxies?: ProxyRoutes | undefined;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  /** Is there an image with the runner of this sha256, apart from that made from the same recipe? */
  readonly isBuilt: (runnerSha256: string) => boolean;
}

export async function chooseRunner(
  choice: RunnerChoice,
  context: RunnerContext,
  onProgress: OnProgress,
): Promise<ChosenRunner> {
  switch (choice.kind) {
    case "path":
      return await describe("path", choice.path, []);
    case "stand-in":
      return await standIn([standInNote("it was asked for", context)]);
    case "official":
      return await official(context, onProgress).catch((error) => {
        throw withWaysOn(error);
      });
    case "auto":
      return await officialOrStandIn(context, onProgress);
  }
}

async function official(context: RunnerContext, onProgress: OnProgress): Promise<ChosenRunner> {
  return { kind: "official", ...(await officialRunner(releaseOptions(context), onProgress)), notes: [] };
}

/** What cannot be had here, now, as opposed to what is not what it should be. */
const NOT_TO_BE_HAD: ReadonlySet<string> = new Set([
  "image_download_failed",
  "image_key_expired",
  "image_tools_missing",
]);

/** An image with the stand-in that is already there is kept, so that a computer without network does not try each time. */
async function officialOrStandIn(context: RunnerContext, onProgress: OnProgress): Promise<ChosenRunner> {
  const fallback = await standIn([]);
  if (!(await isDownloaded(releaseOptions(context))) && context.isBuilt(fallback.sha256))
    return { ...fallback, notes: [standInNote("it was chosen when this image was first built", context)] };
  try {
    return await official(context, onProgress);
  } catch (error) {
    context.signal?.throwIfAborted();
    if (!(error instanceof ImageError) || !NOT_TO_BE_HAD.has(error.code)) throw error;
    const note = standInNote(describeError(error), context);
    onProgress({ phase: "runner", line: note });
    return { ...fallback, notes: [note] };
  }
}

/** An error that ends a build also says what else an image can be built with. */
function withWaysOn(error: unknown): unknown {
  if (!(error instanceof ImageError) || !NOT_TO_BE_HAD.has(error.code)) return error;
  const { code, message, cause, retryable, hint } = error;
  const alternatives =
    "or build with a gitlab-runner of your own (--runner PATH), or, for a trial, with the stand-in (--runner stand-in)";
  return new ImageError(code as ImageErrorCode, message, {
    ...(cause === undefined ? {} : { cause }),
    retryable,
    hint: hint?.includes("--runner PATH") ? hint : `${hint ?? "try again"}; ${alternatives}`,
  });
}

function standInNote(reason: string, { release = RUNNER_RELEASE }: RunnerContext): string {
  return (
    `This image holds the stand-in runner, not the official gitlab-runner ${release.version}: ${reason}. ` +
    "It runs jobs (git, script, variables, artifacts, caches; in an image of the variant containers also image and services), and lacks the rest. " +
    "For the official one: firerunner image build --runner official, or --runner PATH with one that you have."
  );
}

function releaseOptions({
  directory,
  architecture,
  config,
  release,
  proxies,
  clock,
  signal,
}: RunnerContext): ReleaseOptions {
  return {
    directory: `${directory}/downloads`,
    architecture,
    mirror: config.runnerMirror,
    keyFile: config.runnerKeyFile,
    plainHttp: config.allowHttpMirror,
    ...(release ? { release } : {}),
    proxies,
    clock,
    signal,
  };
}

async function standIn(notes: readonly string[]): Promise<ChosenRunner> {
  return await describe("stand-in", guestFile("stand-in-runner"), notes);
}

async function describe(kind: RunnerKind, path: string, notes: readonly string[]): Promise<ChosenRunner> {
  try {
    if (kind === "path") await access(path, constants.R_OK | constants.X_OK);
    return { kind, path, sha256: (await hashFile(path)).sha256, notes };
  } catch (cause) {
    throw new ImageError("image_runner_broken", `the runner ${path} cannot be read or is not executable`, {
      cause,
      hint: "give the path of a gitlab-runner program, and make it executable: chmod +x PATH",
    });
  }
}

interface OwnFile {
  readonly source: string;
  readonly target: string;
  readonly mode: number;
}

/** Our own files in the layer beside the runner: where they come from and where they go. */
const OWN_FILES: readonly OwnFile[] = [
  { source: guestFile("firerunner-init"), target: "usr/sbin/firerunner-init", mode: 0o755 },
  { source: guestFile("relay-link"), target: "usr/local/lib/firerunner/relay-link", mode: 0o755 },
  { source: guestFile("job-shell"), target: "usr/local/lib/firerunner/shell/bash", mode: 0o755 },
  { source: guestFile("login-profile"), target: "etc/profile.d/firerunner.sh", mode: 0o644 },
];

/** Those of images that run containers. */
const CONTAINER_FILES: readonly OwnFile[] = [
  { source: guestFile("container-engine"), target: "usr/local/lib/firerunner/container-engine", mode: 0o755 },
  { source: guestFile("containers.conf"), target: "etc/containers/containers.conf", mode: 0o644 },
  { source: guestFile("registries.conf"), target: "etc/containers/registries.conf", mode: 0o644 },
  { source: guestFile("helper-build"), target: "usr/bin/gitlab-runner-build", mode: 0o755 },
];

const RUNNER_PATH = "usr/local/bin/gitlab-runner";
/** Where the runner looks for its helper, inside the container of its helper image. */
const HELPER_PATH = "usr/bin/gitlab-runner-helper";
const HELPER_STORE = "usr/local/lib/firerunner/helper";

/** Mount points that initramfs-init expects in the root. */
const MOUNT_POINTS = ["builds", "cache"];
/** It binds a directory of the scratch disk to this one where it is there: containers cannot lie on the root's own overlay. */
const ENGINE_STORAGE = "var/lib/containers/storage";
/** The same of Docker's engine. */
const DOCKER_STORAGE = "var/lib/docker";

interface RunnerLayer {
  /** The path of the program. */
  readonly runner: string;
  readonly variant: Variant;
  readonly architecture: string;
}

/** Makes the layer that turns a plain Debian root into a machine of ours: the runner and the init that starts it. */
export async function buildRunnerLayer(
  target: string,
  { runner, variant, architecture }: RunnerLayer,
  scratchDirectory: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const root = join(scratchDirectory, "runner-layer");
  for (const name of MOUNT_POINTS) await mkdir(join(root, name), { recursive: true });
  if (runsContainers(variant)) {
    await mkdir(join(root, ENGINE_STORAGE), { recursive: true });
    await writeHelperStore(join(root, HELPER_STORE), architecture, ["base", "runner"]);
  }
  await openTree(root);
  for (const file of [...ownFiles(variant), { source: runner, target: RUNNER_PATH, mode: 0o755 }])
    await place(root, file);
  if (variant === "docker") await mkdir(join(root, DOCKER_STORAGE), { recursive: true });
  if (runsContainers(variant)) await symlink(`/${RUNNER_PATH}`, join(root, HELPER_PATH));
  await makeSquashfsFromDirectory(root, target, IMAGE_EPOCH_S, signal);
  await rm(root, { recursive: true });
}

function ownFiles(variant: Variant): OwnFile[] {
  return [...OWN_FILES, ...(runsContainers(variant) ? CONTAINER_FILES : [])];
}

async function place(root: string, { source, target, mode }: OwnFile): Promise<void> {
  const path = join(root, target);
  await mkdir(dirname(path), { recursive: true });
  await copyFile(source, path);
  await chmod(path, mode);
  for (let folder = dirname(path); folder !== root; folder = dirname(folder)) await chmod(folder, 0o755);
}

/** An upper layer's modes win over the base's, and must not depend on this program's umask: all may look, and only root may write. */
async function openTree(root: string): Promise<void> {
  await chmod(root, 0o755);
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true }))
    if (!entry.isSymbolicLink())
      await chmod(join(entry.parentPath, entry.name), entry.isDirectory() ? 0o755 : 0o644);
}

/** What decides the layer's content beside the runner itself. */
export async function runnerLayerIngredients(variant: Variant): Promise<unknown> {
  const sources = [...ownFiles(variant).map((file) => file.source), guestFile("initramfs-init")];
  return await Promise.all(sources.map(async (source) => sha256(await readFile(source))));
}
