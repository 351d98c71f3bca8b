/** The real program under load: `bin/firerunner start` in a process of its own, started again and again, and measured. */
import type { ChildProcess } from "node:child_process";
import { closeSync, fstatSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { MIB_BYTES } from "../../src/base/units.ts";
import type { DaemonStatus } from "../../src/views/api.ts";
import { type Daemon, startDaemon } from "../harness/daemon.ts";
import type { FromInside, ToInside } from "./inside.ts";
import { until } from "./until.ts";

const root = join(import.meta.dirname, "../..");
const ANSWER_MS = 5_000;
const RESTART_MS = 1_000;
const MOST_STARTS = 120;
const READY_MS = 60_000;
const TAIL_BYTES = 1_500;

/** What the program holds at one moment. */
export interface Sample {
  /** Epoch ms. */
  readonly at: number;
  readonly rssMib: number;
  /** JavaScript's, after a collection. */
  readonly heldMib: number;
  readonly openFiles: number;
  /** What its state directory takes up. */
  readonly diskMib: number;
}

export interface Manager {
  /** Undefined while it is down. */
  daemon(): Daemon | undefined;
  /** Ends that nobody asked for, in words. */
  readonly crashes: readonly string[];
  /** Starts that came to nothing, such as on a full disk; each was tried again. */
  readonly failedStarts: readonly string[];
  readonly starts: number;
  /** Until it is up, however often that takes. */
  start(): Promise<void>;
  kill9(): Promise<void>;
  /** SIGTERM. The exit code. */
  stop(): Promise<number | null>;
  /** It is given no time to run until it is called again with false. */
  freeze(isFrozen: boolean): void;
  stepClock(offsetMs: number): void;
  /** Undefined while it is down or does not answer. */
  sample(): Promise<Sample | undefined>;
}

export interface ManagerOptions {
  readonly configFile: string;
  readonly state: string;
  /** Takes what it prints. */
  readonly logFile: string;
  /** A program that becomes the manager: its arguments end where the manager's command follows. */
  readonly within?: readonly string[];
}

export function createManager(options: ManagerOptions): Manager {
  const { configFile, state } = options;
  const crashes: string[] = [];
  const failedStarts: string[] = [];
  let starts = 0;
  let current: { readonly daemon: Daemon; readonly child: ChildProcess } | undefined;
  let clockOffsetMs = 0;
  let questions = 0;
  const printsTo = openSync(options.logFile, "a");

  async function startOnce(): Promise<void> {
    let child: ChildProcess | undefined;
    const daemon = await startDaemon(configFile, state, {
      command: [...(options.within ?? []), join(root, "bin/firerunner")],
      env: { NODE_OPTIONS: `--import ${join(import.meta.dirname, "inside.ts")}` },
      printsTo,
      onSpawn: (spawned) => {
        child = spawned;
        tell(spawned, { clockOffsetMs });
      },
    });
    if (!child) throw new Error("no process");
    const own = { daemon, child };
    current = own;
    starts += 1;
    void daemon.ended.then((code) => {
      if (current !== own) return;
      current = undefined;
      crashes.push(
        `ended by itself with ${code ?? child?.signalCode}; its last words: ${lastWords(options)}`,
      );
    });
  }

  async function end(how: "kill9" | "stop"): Promise<number | null> {
    const own = current;
    current = undefined;
    own?.child.kill("SIGCONT");
    if (how === "kill9") await own?.daemon.kill9();
    return how === "stop" ? ((await own?.daemon.stop()) ?? null) : null;
  }

  return {
    daemon: () => current?.daemon,
    crashes,
    failedStarts,
    get starts() {
      return starts;
    },
    async start() {
      for (let attempt = 1; !current; attempt++) {
        try {
          await startOnce();
        } catch (error) {
          failedStarts.push(`${String(error).split("\n")[0]} ${lastWords(options)}`);
          if (attempt >= MOST_STARTS) throw error;
          await sleep(RESTART_MS);
        }
      }
    },
    kill9: async () => void (await end("kill9")),
    stop: () => end("stop"),
    freeze: (isFrozen) => void current?.child.kill(isFrozen ? "SIGSTOP" : "SIGCONT"),
    stepClock(offsetMs) {
      clockOffsetMs = offsetMs;
      if (current) tell(current.child, { clockOffsetMs });
    },
    async sample() {
      const own = current;
      if (!own) return undefined;
      questions += 1;
      const heldBytes = await ask(own.child, questions);
      const { pid } = own.daemon;
      if (heldBytes === undefined || current !== own) return undefined;
      try {
        return {
          at: Date.now(),
          rssMib: rssMibOf(pid),
          heldMib: heldBytes / MIB_BYTES,
          openFiles: readdirSync(`/proc/${pid}/fd`).length,
          diskMib: (await diskBytesOf(state)) / MIB_BYTES,
        };
      } catch {
        // It ended in between.
        return undefined;
      }
    },
  };
}

/** Hosts are known and well, so that the first job need not wait for what happens once. Told by the name of a host or its driver. */
export async function untilReady(
  manager: Manager,
  names: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const isReady = async () => {
    const status = await manager
      .daemon()
      ?.get<Pick<DaemonStatus, "hosts">>("/v1/status")
      .catch(() => undefined);
    const well = status?.hosts.filter(({ capacity, problem }) => capacity !== null && problem === null);
    return names.every((name) => well?.some(({ host, driver }) => host === name || driver === name));
  };
  await until(isReady, { limitMs: READY_MS, signal });
}

function tell(child: ChildProcess, message: ToInside): void {
  if (child.connected) child.send(message, () => {});
}

async function ask(child: ChildProcess, question: number): Promise<number | undefined> {
  return await new Promise((resolve) => {
    const timer = setTimeout(() => finish(undefined), ANSWER_MS);
    const hear = (message: FromInside) => {
      if (message.answer === question) finish(message.heldBytes);
    };
    const finish = (bytes: number | undefined) => {
      clearTimeout(timer);
      child.off("message", hear);
      resolve(bytes);
    };
    child.on("message", hear);
    tell(child, { question });
  });
}

function rssMibOf(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kib) / 1_024;
}

async function diskBytesOf(directory: string): Promise<number> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true }).catch(() => []);
  const sizes = await Promise.all(
    entries.map(({ parentPath, name }) =>
      stat(join(parentPath, name)).then(
        ({ blocks }) => blocks * 512,
        () => 0,
      ),
    ),
  );
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

/** The end of what it printed, which may be long. */
function lastWords({ logFile }: ManagerOptions): string {
  const file = openSync(logFile, "r");
  try {
    const { size } = fstatSync(file);
    const words = Buffer.alloc(Math.min(size, TAIL_BYTES));
    readSync(file, words, 0, words.length, size - words.length);
    return words.toString("utf8").split("\n").slice(-4).join(" ").trim();
  } finally {
    closeSync(file);
  }
}
