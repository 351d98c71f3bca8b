import { type SpawnOptions, spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { FireRunnerError } from "./errors.ts";

const TAIL_BYTES = 4_096;

interface RunOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  /** Written to the standard input, which is then closed. Without it the input is empty. */
  input?: string | Uint8Array;
  /** Called for every line of the standard error as it comes: progress. */
  onStderrLine?: (line: string) => void;
  signal?: AbortSignal;
  uid?: number;
  gid?: number;
}

/** A helper program ended with a non-zero status, by a signal, or could not be started. */
export class ProcessError extends FireRunnerError {
  readonly exitCode: number | null;
  readonly stderrTail: string;

  constructor(command: string, detail: string, stderrTail: string, exitCode: number | null, cause?: unknown) {
    super("process_failed", `${command} ${detail}${stderrTail ? `: ${stderrTail.trim()}` : ""}`, { cause });
    this.exitCode = exitCode;
    this.stderrTail = stderrTail;
  }
}

/**
 * Runs a program to its end and returns its standard output. Throws ProcessError with the last 4 KiB of the standard
 * error. No shell is involved; arguments are never interpreted. Secrets must go through `input` or `env`.
 */
export async function run(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<string> {
  const { input, onStderrLine, signal, ...rest } = options;
  const spawnOptions: SpawnOptions = {
    ...rest,
    stdio: ["pipe", "pipe", "pipe"],
    ...(signal ? { signal } : {}),
  };
  return await new Promise((resolve, reject) => {
    const child = spawn(command, args, spawnOptions);
    const stdout: Buffer[] = [];
    let stderrTail = "";
    let line = "";
    child.stdout?.on("data", (chunk: Buffer) => stdout.push(chunk));
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      stderrTail = (stderrTail + text).slice(-TAIL_BYTES);
      const lines = (line + text).split(/\r?\n|\r/);
      line = lines.pop() ?? "";
      for (const full of lines) onStderrLine?.(full);
    });
    // A program that ends without reading its input is judged by its exit status alone.
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
    child.on("error", (cause) =>
      reject(new ProcessError(command, "could not be run", stderrTail, null, cause)),
    );
    child.on("close", (code, killedBy) => {
      if (code === 0) return resolve(Buffer.concat(stdout).toString("utf8"));
      const detail = killedBy ? `was ended by ${killedBy}` : `ended with status ${code}`;
      reject(new ProcessError(command, detail, stderrTail, code));
    });
  });
}

/**
 * A dump of this program would hold tokens and payloads. From now on one holds no memory, wherever the system sends it, and so it is
 * for every process that is started from here. Where there is no such switch (`bin/firerunner` sets a limit besides) nothing happens.
 */
export async function keepMemoryOutOfDumps(): Promise<void> {
  await writeFile("/proc/self/coredump_filter", "0").catch(() => {});
}
