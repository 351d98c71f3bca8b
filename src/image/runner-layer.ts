import { chmod, copyFile, mkdir, readFile, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { guestFile } from "../base/guest-files.ts";
import { IMAGE_EPOCH_S } from "./base-layer.ts";
import { sha256 } from "./manifest.ts";
import { makeSquashfsFromDirectory } from "./squashfs.ts";

/** Our own files in the layer beside the runner: where they come from and where they go. */
const OWN_FILES = [
  { source: guestFile("firerunner-init"), target: "usr/sbin/firerunner-init", mode: 0o755 },
  { source: guestFile("relay-link"), target: "usr/local/lib/firerunner/relay-link", mode: 0o755 },
  { source: guestFile("job-shell"), target: "usr/local/lib/firerunner/shell/bash", mode: 0o755 },
  { source: guestFile("login-profile"), target: "etc/profile.d/firerunner.sh", mode: 0o644 },
] as const;

const RUNNER_PATH = "usr/local/bin/gitlab-runner";

/** Mount points that initramfs-init expects in the root. */
const MOUNT_POINTS = ["builds", "cache"];

/** Makes the layer that turns a plain Debian root into a machine of ours: the runner and the init that starts it. */
export async function buildRunnerLayer(
  target: string,
  runner: string,
  scratchDirectory: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const root = join(scratchDirectory, "runner-layer");
  const files = [...OWN_FILES, { source: runner, target: RUNNER_PATH, mode: 0o755 }];
  for (const file of files) {
    const path = join(root, file.target);
    await mkdir(dirname(path), { recursive: true });
    await copyFile(file.source, path);
    await chmod(path, file.mode);
  }
  for (const name of MOUNT_POINTS) await mkdir(join(root, name), { recursive: true });
  await openFolders(root, files);
  await makeSquashfsFromDirectory(root, target, IMAGE_EPOCH_S, signal);
  await rm(root, { recursive: true });
}

/** An upper layer's directory modes win over the base's: whatever umask this program has, they must be 0755. */
async function openFolders(root: string, files: readonly { target: string }[]): Promise<void> {
  const folders = new Set([root, ...MOUNT_POINTS.map((name) => join(root, name))]);
  for (const { target } of files)
    for (let folder = dirname(target); folder !== "."; folder = dirname(folder))
      folders.add(join(root, folder));
  for (const folder of folders) await chmod(folder, 0o755);
}

/** What decides the layer's content beside the runner itself. */
export async function runnerLayerIngredients(): Promise<unknown> {
  const sources = [...OWN_FILES.map((file) => file.source), guestFile("initramfs-init")];
  return await Promise.all(sources.map(async (source) => sha256(await readFile(source))));
}
