import { mkdir, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { describeError, FireRunnerError, systemCode } from "./errors.ts";

/**
 * Makes a directory, and those above it that are missing, all with `mode`. What is there stays as it is. Throws FireRunnerError
 * `directory_failed`. Node's recursive mkdir is not used for paths that people name: where a file system takes no directories but
 * answers ENOENT, as /proc does, it tries again for ever in a thread that nothing ends.
 */
export async function makeDirectory(path: string, mode: number): Promise<void> {
  try {
    await make(path, mode);
  } catch (cause) {
    const code = systemCode(cause) ?? "";
    // Of a system's error only the part that says more than this is passed on: “/proc/x does not exist” would not help.
    const reason = code === "ENOENT" ? "its file system takes no directories" : describeError(cause);
    throw new FireRunnerError("directory_failed", `the directory ${path} cannot be made: ${reason}`, {
      hint: hints[code] ?? "name another directory, or make it by hand",
    });
  }
}

const hints: Readonly<Record<string, string>> = {
  EACCES: "make it by hand for the user FireRunner runs as, or name another directory",
  ENOSPC: "free some space on its disk, or name a directory on another",
  ENOENT: "name a directory on a disk",
};

async function make(path: string, mode: number): Promise<void> {
  try {
    await makeOne(path, mode);
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
    await make(dirname(path), mode);
    // Once more and no oftener: all above it is there now.
    await makeOne(path, mode);
  }
}

async function makeOne(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, { mode });
  } catch (error) {
    if (systemCode(error) !== "EEXIST" || !(await stat(path)).isDirectory()) throw error;
  }
}
