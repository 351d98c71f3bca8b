import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";

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
  readonly runnerToken: string;
  readonly memoryMib: number;
  /** Machines at one time. */
  readonly concurrency: number;
  readonly egress: "none" | "internet";
  /** For jobs that come by webhook. */
  readonly webhook: DemoWebhook | undefined;
}

interface DemoWebhook {
  readonly project: string;
  readonly apiToken: string;
  /** Port of FireRunner's listener on loopback. */
  readonly port: number;
}

/** FireRunner's configuration, as an operator would write it. */
export async function writeConfig(workspace: Workspace, config: DemoConfig): Promise<void> {
  const tokenFile = await writeSecret(workspace, "runner.token", config.runnerToken);
  const text = `gitlab:
  url: ${config.gitlabUrl}
pools:
  demo:
    size: { cpus: 1, memory: ${config.memoryMib}MiB, disk: 4GiB }
    image: base
    runner: { tokenFile: ${tokenFile} }
    concurrency: ${config.concurrency}
    egress: ${config.egress}
${config.webhook ? await webhookText(workspace, config.webhook) : ""}vm:
  maxMachines: ${config.concurrency}
images:
  directory: ${config.imagesDirectory}
state: ${workspace.state}
`;
  await writeFile(workspace.configFile, text, { mode: 0o600 });
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

/** A port of loopback that nobody listens on just now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
