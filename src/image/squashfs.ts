import { type ChildProcessByStdio, spawn } from "node:child_process";
import { createReadStream } from "node:fs";
import { readdir } from "node:fs/promises";
import type { Readable, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { ProcessError, run } from "../base/process.ts";

const COMPRESSION = ["-comp", "zstd", "-Xcompression-level", "6"];
const QUIET = ["-quiet", "-no-progress"];

/**
 * Packs a tar archive, keeping owners, modes and times. The same archive always gives the same bytes: the root directory,
 * which mksquashfs does not take from the archive, gets the time of SOURCE_DATE_EPOCH instead of the present.
 */
export async function makeSquashfsFromTar(
  tar: string,
  target: string,
  epochS: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const args = ["-", target, "-tar", ...COMPRESSION, ...QUIET, "-root-mode", "0755"];
  const child = spawn("env", [`SOURCE_DATE_EPOCH=${epochS}`, "mksquashfs", ...args], {
    stdio: ["pipe", "ignore", "pipe"],
    ...(signal ? { signal } : {}),
  });
  const ended = endOf("mksquashfs", child);
  // When mksquashfs ends early its status says more than the broken pipe does.
  const [, outcome] = await Promise.allSettled([pipeline(createReadStream(tar), child.stdin), ended]);
  if (outcome.status === "rejected") throw outcome.reason;
}

/** Packs a directory as files of root, all with one time. */
export async function makeSquashfsFromDirectory(
  directory: string,
  target: string,
  epochS: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const times = ["-mkfs-time", `${epochS}`, "-all-time", `${epochS}`];
  const args = [directory, target, "-all-root", "-no-xattrs", ...COMPRESSION, ...QUIET, ...times];
  await run("mksquashfs", args, signal ? { signal } : {});
}

/** Takes files out of a squashfs into the new directory `target`; paths as they are inside, without a leading slash. */
export async function extractFromSquashfs(
  archive: string,
  target: string,
  paths: readonly string[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const args = ["-no-progress", "-no-xattrs", "-force", "-dest", target, archive, ...paths];
  await run("unsquashfs", args, signal ? { signal } : {});
  if ((await readdir(target)).length === 0)
    throw new ProcessError("unsquashfs", `found none of ${paths.join(", ")}`, "", 0);
}

/**
 * A squashfs as a tar archive, as it is read: owners, modes, times, devices, hard links and extended attributes are kept, root
 * is not needed, and the same file always gives the same bytes. What a tar archive cannot hold (a socket) is an error.
 */
export async function* readSquashfsAsTar(
  archive: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  const child = spawn("sqfs2tar", ["--no-skip", "--root-becomes", ".", archive], {
    stdio: ["ignore", "pipe", "pipe"],
    ...(signal ? { signal } : {}),
  });
  const ended = endOf("sqfs2tar", child);
  // It is awaited below; a reader that stops early has its own reason.
  ended.catch(() => {});
  try {
    yield* child.stdout as AsyncIterable<Buffer>;
    await ended;
  } finally {
    child.kill("SIGKILL");
  }
}

/** Rejects with ProcessError, which has the program's last words. */
function endOf(
  program: string,
  child: ChildProcessByStdio<Writable | null, Readable | null, Readable>,
): Promise<void> {
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-4_096);
  });
  return new Promise<void>((resolve, reject) => {
    child.on("error", (cause) => reject(new ProcessError(program, "could not be run", stderr, null, cause)));
    child.on("close", (code) =>
      code === 0 ? resolve() : reject(new ProcessError(program, `ended with status ${code}`, stderr, code)),
    );
  });
}
