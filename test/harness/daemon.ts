import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { Agent, request } from "undici";
import type { Job, Machine } from "../../src/store/store.ts";

const root = join(import.meta.dirname, "../..");

/** Under emulation the program alone takes a quarter of a minute to load. */
const UP_DEADLINE_MS = 90_000;

/** A real `firerunner start` in a process of its own: what is killed here dies as it would anywhere. */
export interface Daemon {
  readonly pid: number;
  /** Everything it printed so far. */
  output(): string;
  /** GET on the control socket. */
  get<T>(path: string): Promise<T>;
  post(path: string): Promise<void>;
  jobs(): Promise<Job[]>;
  machines(): Promise<Machine[]>;
  signal(name: NodeJS.Signals): void;
  /** SIGKILL, and waits for the end. */
  kill9(): Promise<void>;
  /** SIGTERM, and waits for the end; the exit code. */
  stop(): Promise<number | null>;
  /** Resolves with the exit code when it ends by itself. */
  readonly ended: Promise<number | null>;
}

/** What a test puts around the program. */
export interface DaemonSurroundings {
  /** Programs and their arguments in front of `start`, the last of which is the program: `bin/firerunner`. */
  readonly command?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** An open file that takes what it prints, which `output` then does not have. */
  readonly printsTo?: number;
  /** The process as soon as there is one, long before it is up; messages go to it and come from it. */
  readonly onSpawn?: (child: ChildProcess) => void;
}

export async function startDaemon(
  configFile: string,
  stateDirectory: string,
  around: DaemonSurroundings = {},
): Promise<Daemon> {
  const { command = [process.execPath, join(root, "src/main.ts")], printsTo, onSpawn } = around;
  const [program = "", ...before] = command;
  const prints = printsTo ?? "pipe";
  const child = spawn(program, [...before, "start", "--config", configFile], {
    stdio: ["ignore", prints, prints, ...(onSpawn ? (["ipc"] as const) : [])],
    env: { PATH: process.env["PATH"], HOME: process.env["HOME"], ...around.env },
  });
  onSpawn?.(child);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  }
  const ended = new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code)));
  const agent = new Agent({ connect: { socketPath: join(stateDirectory, "control.sock") } });
  const daemon = assemble(child, agent, ended, () => output);
  await waitUntilUp(daemon, child);
  return daemon;
}

function assemble(
  child: ChildProcess,
  agent: Agent,
  ended: Promise<number | null>,
  output: () => string,
): Daemon {
  async function call<T>(method: "GET" | "POST", path: string): Promise<T> {
    const { statusCode, body } = await request(`http://control${path}`, { method, dispatcher: agent });
    const text = await body.text();
    if (statusCode >= 300) throw new Error(`${method} ${path}: ${statusCode} ${text}`);
    return (text ? JSON.parse(text) : undefined) as T;
  }
  async function end(signal: NodeJS.Signals): Promise<number | null> {
    child.kill(signal);
    const code = await ended;
    await agent.destroy();
    return code;
  }
  return {
    pid: child.pid ?? 0,
    output,
    ended,
    get: (path) => call("GET", path),
    post: (path) => call("POST", path),
    jobs: async () => (await call<{ jobs: Job[] }>("GET", "/v1/jobs")).jobs,
    machines: async () => (await call<{ machines: Machine[] }>("GET", "/v1/machines")).machines,
    signal: (name) => void child.kill(name),
    kill9: async () => {
      await end("SIGKILL");
    },
    stop: () => end("SIGTERM"),
  };
}

async function waitUntilUp(daemon: Daemon, child: ChildProcess): Promise<void> {
  const deadline = Date.now() + UP_DEADLINE_MS;
  while (Date.now() < deadline) {
    if (child.exitCode !== null || child.signalCode !== null)
      throw new Error(`firerunner ended at once:\n${daemon.output()}`);
    const isUp = await daemon.get("/v1/status").then(
      () => true,
      () => false,
    );
    if (isUp) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`firerunner did not come up:\n${daemon.output()}`);
}
