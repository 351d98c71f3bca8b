/**
 * Makes a squashfs of a tar archive that is written to it. The program that does it, tar2sqfs, gets what strangers made: it runs as nobody
 * where this program is root, can gain no rights, and has limits on memory, processor, and the size of what it writes.
 */
import { spawn } from "node:child_process";
import { type FileHandle, open, rm } from "node:fs/promises";
import type { Writable } from "node:stream";
import { systemCode } from "../../base/errors.ts";
import { MIB_BYTES } from "../../base/units.ts";
import { ContainerError } from "../errors.ts";

export interface SquashWriter {
  /** Resolves when all of it has been handed over: its memory may be used again. Throws when the program has ended. */
  write(pieces: readonly Buffer[]): Promise<void>;
  /** All has been written: resolves with the size of the disk, which is on the disk's own disk. Throws `container_compose_failed`. */
  end(): Promise<number>;
  /** Gives up, and removes what there is. */
  abandon(): Promise<void>;
}

export interface SquashOptions {
  /** Must not exist. */
  readonly target: string;
  readonly bytesMax: number;
  readonly jobs: number;
}

const NOBODY = 65_534;
const MEMORY_BYTES_MAX = 6 * 1024 * MIB_BYTES;
const PROCESSOR_S_MAX = 3_600;
const LAST_WORDS = 2_000;

export async function startSquash(options: SquashOptions): Promise<SquashWriter> {
  const { target } = options;
  const isRoot = process.getuid?.() === 0;
  const file = await open(target, "wx", 0o600);
  // It opens the file anew, by its number: it needs no way to the directory, and no rights there.
  if (isRoot) await file.chown(NOBODY, NOBODY);
  const [command = "", ...args] = commandOf(options, isRoot);
  const child = spawn(command, args, {
    cwd: "/",
    env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" },
    stdio: ["pipe", "ignore", "pipe", file.fd],
  });
  let words = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    words = (words + text).slice(-LAST_WORDS);
  });
  let hasEnded = false;
  let onEnd = () => {};
  const ended = new Promise<ContainerError | undefined>((resolve) => {
    const end = (failure: ContainerError | undefined) => {
      hasEnded = true;
      resolve(failure);
      onEnd();
    };
    child.on("error", (cause) => end(failed("could not be run", "", cause)));
    child.on("close", (code, signal) =>
      end(code === 0 ? undefined : failed(`ended (${signal ?? code})`, words)),
    );
  });
  const stdin = child.stdin as Writable;
  // Its end says more than a broken pipe does.
  stdin.on("error", () => {});

  return {
    async write(pieces) {
      if (pieces.length > 0 && !hasEnded)
        await new Promise<void>((resolve) => {
          onEnd = resolve;
          stdin.cork();
          for (const piece of pieces.slice(0, -1)) stdin.write(piece);
          stdin.write(pieces.at(-1), (error) => (error ? undefined : resolve()));
          stdin.uncork();
        });
      if (hasEnded) throw (await ended) ?? failed("ended before its input did", words);
    },
    async end() {
      stdin.end();
      const failure = await ended;
      if (failure) throw failure;
      return await seal(file, isRoot);
    },
    async abandon() {
      child.kill("SIGKILL");
      await ended;
      await file.close().catch(() => {});
      await rm(target, { force: true });
    },
  };
}

async function seal(file: FileHandle, isRoot: boolean): Promise<number> {
  if (isRoot) await file.chown(0, 0);
  await file.chmod(0o444);
  await file.sync();
  const { size } = await file.stat();
  await file.close();
  return size;
}

function commandOf({ bytesMax, jobs }: SquashOptions, isRoot: boolean): string[] {
  const rights = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--bounding-set", "-all"];
  const limits = [
    `--as=${MEMORY_BYTES_MAX}`,
    `--fsize=${bytesMax}`,
    `--cpu=${PROCESSOR_S_MAX}`,
    "--core=0",
    "--nofile=64",
  ];
  const squash = ["--quiet", "--force", "--no-skip", "--compressor", "zstd", "--comp-extra", "level=3"];
  return [
    ...(isRoot ? ["unshare", "--net", "--ipc", "--uts"] : []),
    ...["prlimit", ...limits, "setpriv", ...(isRoot ? rights : []), "--no-new-privs", "--pdeathsig", "KILL"],
    ...["tar2sqfs", ...squash, "--num-jobs", jobs, "/proc/self/fd/3"],
  ].map(String);
}

function failed(how: string, words: string, cause?: unknown): ContainerError {
  const isMissing = cause !== undefined && systemCode(cause) === "ENOENT";
  const said = words.replace(/\s+/g, " ").trim();
  return new ContainerError(
    "container_compose_failed",
    `making the disk of an image: tar2sqfs ${how}${said === "" ? "" : `: ${said}`}`,
    {
      ...(cause === undefined ? {} : { cause }),
      hint:
        isMissing || /not found|No such file/.test(said)
          ? "install squashfs-tools-ng and util-linux"
          : "look at its own words; if the disk is full, make room or lower containers.cache.size",
    },
  );
}
