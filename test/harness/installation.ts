import { readdirSync, readFileSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  createStandInGitLab,
  type StandInGitLab,
  type StandInOptions,
} from "@firerunner/gitlab-stand-in/stand-in";
import { stringify } from "yaml";
import { type Daemon, startDaemon } from "./daemon.ts";
import { eventually } from "./eventually.ts";
import { testImageDirectory } from "./image.ts";

type Settings = Readonly<Record<string, unknown>>;

export interface InstallationOptions {
  readonly gitlab?: StandInOptions;
  /** Laid over the configuration; may be made of what GitLab has. */
  readonly settings?: Settings | ((gitlab: StandInGitLab) => Settings);
  /** Where the state lies instead of below the installation's own directory. */
  readonly state?: string;
  /** Laid over the one pool, `small`. */
  readonly pool?: Settings;
}

/** A stand-in GitLab and one FireRunner installation with one pool of real machines, all under one directory. */
export interface Installation {
  readonly gitlab: StandInGitLab;
  readonly directory: string;
  readonly state: string;
  readonly configFile: string;
  readonly runnerToken: string;
  start(): Promise<Daemon>;
  /** Processes that name this installation on their command line or in their environment: its machines and their helpers. */
  processes(): { pid: number; command: string }[];
  /** The QEMU processes among them. */
  machineProcesses(): number[];
  /** What is left of machines on disk. */
  machineDirectories(): Promise<string[]>;
  /** Throws unless processes and directories of machines are all gone soon. */
  expectNothingLeft(): Promise<void>;
  close(): Promise<void>;
}

export async function createInstallation(options: InstallationOptions = {}): Promise<Installation> {
  const directory = await mkdtemp(join(tmpdir(), "fr-"));
  // Machines run as users of their own and must be able to pass through.
  await chmod(directory, 0o711);
  // FireRunner waits for its open poll before it ends, and tests end it often.
  const behaviour = { longPollMs: 3_000, ...options.gitlab?.behaviour };
  const gitlab = createStandInGitLab({ ...options.gitlab, behaviour });
  await gitlab.listen();
  const runner = gitlab.runners.add({ runUntagged: true });
  const state = options.state ?? join(directory, "state");
  const configFile = join(directory, "firerunner.yaml");
  await writeFile(join(directory, "token"), runner.token, { mode: 0o600 });
  const given = options.settings ?? {};
  const settings = typeof given === "function" ? given(gitlab) : given;
  const whole = configuration(gitlab.url, { state, directory, settings, pool: options.pool });
  await writeFile(configFile, stringify(whole), { mode: 0o600 });
  await mkdir(state, { recursive: true, mode: 0o711 });

  const installation: Installation = {
    gitlab,
    directory,
    state,
    configFile,
    runnerToken: runner.token,
    start: () => startDaemon(configFile, state),
    processes: () => processesNaming(directory, state),
    machineProcesses: () =>
      processesNaming(directory, state)
        .filter(({ command }) => command.startsWith("qemu-system") || command.includes("/qemu-system"))
        .map(({ pid }) => pid),
    machineDirectories: () => readdir(join(state, "machines")).catch(() => []),
    async expectNothingLeft() {
      await eventually("no machine's process is left", () => installation.machineProcesses().length === 0);
      await eventually(
        "no machine's directory is left",
        async () => (await installation.machineDirectories()).length === 0,
      );
    },
    async close() {
      for (const pid of installation.machineProcesses()) killQuietly(pid);
      await gitlab.close();
      await rm(directory, { recursive: true, force: true, maxRetries: 5 });
    },
  };
  return installation;
}

interface Configured {
  readonly pool: Settings | undefined;
  readonly state: string;
  readonly directory: string;
  readonly settings: Settings;
}

function configuration(url: string, { state, directory, settings, pool }: Configured): unknown {
  return {
    gitlab: { url },
    state,
    images: { directory: testImageDirectory() },
    pools: {
      small: {
        size: { cpus: 1, memory: "512MiB", disk: "2GiB" },
        concurrency: 4,
        runner: { tokenFile: join(directory, "token") },
        egress: "none",
        ...pool,
      },
    },
    vm: { cpuOvercommit: 4, memoryReserve: "1GiB" },
    ...settings,
  };
}

/** Processes that have this directory on their command line, or are a machine's of this state directory. */
export function processesNaming(directory: string, state: string): { pid: number; command: string }[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((name) => {
      const [command, environment] = [wordsOf(name, "cmdline"), wordsOf(name, "environ")];
      const isOurs = command.includes(directory) || environment.includes(`FIRERUNNER_MACHINE=${state}`);
      return isOurs ? [{ pid: Number(name), command }] : [];
    });
}

function wordsOf(pid: string, file: "cmdline" | "environ"): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8").replaceAll("\0", " ");
  } catch {
    return "";
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It ended in between.
  }
}
