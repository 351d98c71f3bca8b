/** Where a run of the demo keeps everything, FireRunner's configuration in it, and what is left of it at the end. */
import { randomBytes, randomInt } from "node:crypto";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { listenOn } from "../base/listen.ts";

/** Where one run of the demo keeps everything. Paths are short: a socket's path has 107 bytes. */
export interface Workspace {
  readonly directory: string;
  /** FireRunner's state directory. */
  readonly state: string;
  /** The stand-in GitLab's files. */
  readonly gitlab: string;
  readonly configFile: string;
  readonly logFile: string;
  remove(): Promise<void>;
}

export async function createWorkspace(parent: string): Promise<Workspace> {
  const directory = await mkdtemp(join(parent, "fr-demo-"));
  // Machines run as another user, who must be able to pass through; what is private in there says so itself.
  await chmod(directory, 0o711);
  const state = join(directory, "state");
  const gitlab = join(directory, "gitlab");
  await mkdir(state, { mode: 0o711 });
  await mkdir(gitlab, { mode: 0o700 });
  return {
    directory,
    state,
    gitlab,
    configFile: join(directory, "firerunner.yaml"),
    logFile: join(directory, "firerunner.log"),
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

interface DemoConfig {
  readonly gitlabUrl: string;
  readonly imagesDirectory: string;
  /** Name of the image that the pool's machines boot. */
  readonly image: string;
  readonly runnerToken: string;
  readonly memoryMib: number;
  /** Machines at one time. */
  readonly concurrency: number;
  readonly egress: "none" | "internet";
  /** For the demo's own job in an image. */
  readonly images: DemoImages | undefined;
  /** For jobs that come by webhook. */
  readonly webhook: DemoWebhook | undefined;
}

interface DemoImages {
  readonly runnerToken: string;
  /** `127.0.0.1:PORT`. */
  readonly registry: string;
}

interface DemoWebhook {
  readonly project: string;
  readonly apiToken: string;
  /** Port of FireRunner's listener on loopback. */
  readonly port: number;
}

/** A registry that this computer does not reach is not waited for as long as one that is down. */
const PATIENCE = "    containers: { pullDeadline: 2m }\n";

/** FireRunner's configuration, as an operator would write it. */
export async function writeConfig(workspace: Workspace, config: DemoConfig): Promise<void> {
  const tokenFile = await writeSecret(workspace, "runner.token", config.runnerToken);
  const text = `gitlab:
  url: ${config.gitlabUrl}
pools:
  demo:
    size: { cpus: 1, memory: ${config.memoryMib}MiB, disk: 4GiB }
    image: ${config.image}
    runner: { tokenFile: ${tokenFile} }
    concurrency: ${config.concurrency}
    egress: ${config.egress}
${config.image === "containers" ? PATIENCE : ""}${config.images ? await imagesText(workspace, config.images) : ""}${config.webhook ? await webhookText(workspace, config.webhook) : ""}vm:
  maxMachines: ${config.concurrency}
images:
  directory: ${config.imagesDirectory}
state: ${workspace.state}
`;
  await writeFile(workspace.configFile, text, { mode: 0o600 });
}

/** A pool for jobs in images, and the registry that has theirs. */
async function imagesText(workspace: Workspace, { runnerToken, registry }: DemoImages): Promise<string> {
  return `  images:
    size: { cpus: 2, memory: 1280MiB, disk: 4GiB }
    image: containers
    runner: { tokenFile: ${await writeSecret(workspace, "images.token", runnerToken)} }
    concurrency: 1
    egress: none
containers:
  registries:
    "${registry}": { plaintext: true }
`;
}

async function webhookText(workspace: Workspace, { project, apiToken, port }: DemoWebhook): Promise<string> {
  const signingKey = `whsec_${randomBytes(32).toString("base64")}`;
  return `webhook:
  project: ${project}
  apiTokenFile: ${await writeSecret(workspace, "api.token", apiToken)}
  signingKeyFile: ${await writeSecret(workspace, "signing.key", signingKey)}
  url: http://127.0.0.1:${port}/webhook
  machine: { image: base, disk: 4GiB, egress: none }
http:
  listen: ["http://127.0.0.1:${port}"]
`;
}

async function writeSecret(workspace: Workspace, name: string, text: string): Promise<string> {
  const path = join(workspace.directory, name);
  await writeFile(path, `${text}\n`, { mode: 0o600 });
  return path;
}

/** Below those that systems give to whoever asks for any: nobody gets one by chance before it is used, or while its server is away. */
const FIRST_PORT = 20_000;
const PORTS = 12_000;
const MOST_TRIES = 100;

/** A port of loopback that nobody listens on just now. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < MOST_TRIES; tries++) {
    const port = FIRST_PORT + randomInt(PORTS);
    if (await isFree(port)) return port;
  }
  throw new Error(`none of ${MOST_TRIES} ports of 127.0.0.1 is free`);
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    await listenOn(server, { port, host: "127.0.0.1" });
  } catch {
    return false;
  }
  server.close();
  await once(server, "close");
  return true;
}

const WAIT_LIMIT_MS = 15_000;

/** What a run has left behind; empty when nothing. */
type Leftovers = readonly string[];

/** Processes that name this run's directory: machines, their helpers, FireRunner; without the one that may be there. */
export async function findProcesses(workspace: Workspace, butPid?: number): Promise<string[]> {
  const found = await processesNaming(workspace.directory);
  return found
    .filter(({ pid }) => pid !== butPid)
    .map(({ pid, command }) => `process ${pid}: ${command.slice(0, 100)}`);
}

async function machineDirectories(workspace: Workspace): Promise<string[]> {
  const entries = await readdir(join(workspace.state, "machines"), { recursive: true }).catch(() => []);
  return entries.map((entry) => `${join(workspace.state, "machines", entry)}`);
}

/** Looks until nothing of any machine is left (process, socket, disk, directory), or the time is up. */
export async function findLeftovers(
  workspace: Workspace,
  daemonPid: number,
  clock: Clock,
): Promise<Leftovers> {
  const until = clock.now() + WAIT_LIMIT_MS;
  for (;;) {
    const left = [...(await findProcesses(workspace, daemonPid)), ...(await machineDirectories(workspace))];
    if (left.length === 0 || clock.now() > until) return left;
    await clock.sleep(200);
  }
}

/** Ends every process that names this run's directory. For a run that was broken off. */
export async function killRemaining(workspace: Workspace): Promise<void> {
  for (const { pid } of await processesNaming(workspace.directory)) kill(pid);
}

interface FoundProcess {
  readonly pid: number;
  readonly command: string;
}

/** Processes of this computer whose command line names `text`, such as a path that only one run uses. Not this one. */
export async function processesNaming(text: string): Promise<FoundProcess[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const all = await Promise.all(pids.filter((pid) => pid !== process.pid).map(readProcess));
  return all.filter((found) => found !== undefined).filter((found) => found.command.includes(text));
}

async function readProcess(pid: number): Promise<FoundProcess | undefined> {
  try {
    const command = (await readFile(`/proc/${pid}/cmdline`, "utf8")).replaceAll("\0", " ").trim();
    return command === "" ? undefined : { pid, command };
  } catch {
    // It ended meanwhile, or is another user's business.
    return undefined;
  }
}

/** Ends it at once. A process that is gone already is as good. */
export function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
