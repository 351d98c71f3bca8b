/** Files and directories that are there whole or not at all, also after a crash or a power cut. */
import { createHash, randomBytes } from "node:crypto";
import { constants, createReadStream } from "node:fs";
import { copyFile, link, open, readdir, readFile, realpath, rename, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { systemCode } from "../base/errors.ts";
import { run } from "../base/process.ts";
import { ImageError } from "./errors.ts";

export async function syncPath(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

export async function writeFileDurably(path: string, content: string | Uint8Array): Promise<void> {
  const temporary = `${path}.${randomBytes(4).toString("hex")}.tmp`;
  const handle = await open(temporary, "wx", 0o644);
  try {
    await handle.chmod(0o644);
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, path);
  await syncPath(dirname(path));
}

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

export async function hashFile(
  path: string,
  signal?: AbortSignal,
): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash, signal ? { signal } : {});
  return { bytes: (await stat(path)).size, sha256: hash.digest("hex") };
}

/** `<pid>-<start time>`: names this very process, also after its pid has been given to another. */
export async function processMark(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => undefined);
  // The command's name, in parentheses, may hold spaces; start time is the 20th field after it.
  const startTime = text?.slice(text.lastIndexOf(")") + 2).split(" ")[19];
  return startTime === undefined ? undefined : `${pid}-${startTime}`;
}
