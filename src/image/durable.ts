/** Directories that are there whole or not at all, also after a crash or a power cut. */
import { constants } from "node:fs";
import { copyFile, link, readdir, readFile, realpath, rename } from "node:fs/promises";
import { dirname, join } from "node:path";
import { syncPath } from "../base/durable-file.ts";
import { systemCode } from "../base/errors.ts";
import { run } from "../base/process.ts";
import { ImageError } from "./errors.ts";

/** Puts a finished directory in its place. One that is already there, with the same content by its name, stays. */
export async function moveIntoPlace(directory: string, target: string): Promise<void> {
  for (const name of await readdir(directory)) await syncPath(join(directory, name));
  await syncPath(directory);
  try {
    await rename(directory, target);
  } catch (error) {
    const code = systemCode(error);
    if (code !== "ENOTEMPTY" && code !== "EEXIST") throw error;
    await removeTree(directory);
  }
  await syncPath(dirname(target));
}

/** Another name for the same bytes where the file system can, else a copy. */
export async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch {
    await copyFile(from, to, constants.COPYFILE_FICLONE);
  }
}

/**
 * Removes a tree in which nothing is mounted. A system under construction has the host's own /dev/shm, /proc and /sys mounted
 * in it, and removing it with them would remove theirs; `--one-file-system` alone does not see a bind mount of the same
 * file system. Throws `image_build_failed` and leaves everything as it is.
 */
export async function removeTree(path: string, mountTable = "/proc/self/mountinfo"): Promise<void> {
  const real = await realpath(path).catch(() => path);
  const mounts = mountPointsBelow(real, await readFile(mountTable, "utf8"));
  if (mounts.length > 0)
    throw new ImageError(
      "image_build_failed",
      `${path} is not removed, because ${mounts[0]} is mounted in it`,
      {
        hint: `unmount it first: umount ${mounts.toReversed().join(" ")}`,
      },
    );
  await run("rm", ["-rf", "--one-file-system", "--", path]);
}

/** The mount points at or below `path` in the text of /proc/self/mountinfo, in the order of their mounting. */
export function mountPointsBelow(path: string, mountinfo: string): string[] {
  const decode = (text: string) =>
    text.replace(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
  return mountinfo
    .split("\n")
    .map((line) => decode(line.split(" ")[4] ?? ""))
    .filter((point) => point === path || point.startsWith(`${path}/`));
}
