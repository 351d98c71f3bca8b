/** Starts FireRunner as a program of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { open, readFile } from "node:fs/promises";
import type { Clock } from "../base/clock.ts";
import { DemoError } from "./errors.ts";

const STOP_LIMIT_MS = 30_000;

/** The command that runs FireRunner, as a user would type it: program and first arguments. */
export type Executable = readonly [string, ...string[]];

/** Runs a command of FireRunner to its end, with its output going to the user. Throws `demo_program_failed`. */
export async function runCommand(
  executable: Executable,
  args: readonly string[],
  options: { readonly output: 1 | 2; readonly signal: AbortSignal },
): Promise<void> {
  const { output, signal } = options;
  const [program, ...first] = executable;
  const child = spawn(program, [...first, ...args], { stdio: ["ignore", output, 2] });
  const stop = () => child.kill("SIGTERM");
  signal.addEventListener("abort", stop, { once: true });
  const status = await ended(child);
  signal.removeEventListener("abort", stop);
  signal.throwIfAborted();
  if (status !== 0)
    throw new DemoError(
      "demo_program_failed",
      `“firerunner ${args[0]} ${args[1] ?? ""}” ended with ${status}`,
      {
        hint: "its own output above says why",
      },
    );
}

async function ended(child: ChildProcess): Promise<number | string> {
  return await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve(code ?? signal ?? "unknown"));
  });
}

/** A running `firerunner start`. */
export interface Daemon {
  readonly pid: number;
  /** Its exit status or signal, once it has ended. */
  ended(): number | string | undefined;
  /** The last lines of its log. */
  logTail(): Promise<readonly string[]>;
  /** SIGTERM; SIGKILL when it takes too long. Returns its exit status or signal. */
  stop(clock: Clock): Promise<number | string>;
}

/** Starts `firerunner start`; its log goes to a file. A group of its own: Ctrl-C at the terminal is the demo's to handle. */
export async function startDaemon(
  executable: Executable,
  configFile: string,
  logFile: string,
): Promise<Daemon> {
  const log = await open(logFile, "a", 0o600);
  const [program, ...first] = executable;
  const child = spawn(program, [...first, "start", "--config", configFile], {
    stdio: ["ignore", log.fd, log.fd],
    detached: true,
  });
  let status: number | string | undefined;
  const end = ended(child).then((value) => {
    status = value;
    return value;
  });
  await log.close();
  return {
    pid: child.pid ?? 0,
    ended: () => status,
    async logTail() {
      return (await readFile(logFile, "utf8")).trimEnd().split("\n").slice(-20);
    },
    async stop(clock) {
      child.kill("SIGTERM");
      const late = new AbortController();
      const limit = clock.sleep(STOP_LIMIT_MS, late.signal).then(
        () => child.kill("SIGKILL"),
        () => {},
      );
      const value = await end;
      late.abort();
      await limit;
      return value;
    },
  };
}
