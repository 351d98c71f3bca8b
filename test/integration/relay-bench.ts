import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { connect as connectTls, type TLSSocket } from "node:tls";
import type { Job, Project } from "@firerunner/gitlab-stand-in/model";
import type { NewPipeline } from "@firerunner/gitlab-stand-in/pipelines";
import { createStandInGitLab, type StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import { createRunnerDouble, type RunnerDouble } from "@firerunner/gitlab-stand-in/test-clients";
import { systemClock } from "../../src/base/clock.ts";
import { newMachineId } from "../../src/base/ids.ts";
import { silentLog } from "../../src/base/log.ts";
import type { JobDefinition } from "../../src/ci/definition.ts";
import { createGitLabHttp } from "../../src/gitlab/http.ts";
import { createRunnerApi } from "../../src/gitlab/runner-client.ts";
import { RelaySettings } from "../../src/relay/config.ts";
import type { RelayOptions } from "../../src/relay/job/handlers.ts";
import { createRelay, type Relay } from "../../src/relay/relay.ts";
import type { GuestEndpoint } from "../../src/scheduler/ports.ts";
import { createStore } from "../../src/store/create-store.ts";
import type { Store } from "../../src/store/store.ts";
import type { RelayLink } from "../../src/vm/driver.ts";
import { aClaim } from "../builders/job.ts";
import { aNewMachine } from "../builders/machine.ts";
import { aPool, type PoolOverrides } from "../builders/pool.ts";

export interface RelayBenchOptions {
  readonly gitlab?: Parameters<typeof createStandInGitLab>[0];
  /** GitLab's address for the relay, when it is not the stand-in's own. */
  readonly gitlabUrl?: string;
  readonly settings?: Partial<RelaySettings>;
  readonly pool?: PoolOverrides;
  readonly relay?: Partial<RelayOptions>;
  /** Machines are on other hosts: they come over TLS, with their link's secret. */
  readonly network?: boolean;
  /** What the relay has for a store, around the real one. */
  readonly wrapStore?: (store: Store) => Store;
}

/** A machine with a claimed job, its server open, and a runner inside. */
export interface BenchMachine {
  readonly id: string;
  readonly job: Job;
  /** The job's token. */
  readonly token: string;
  readonly socketPath: string;
  /** Of a machine on another host. */
  readonly link: RelayLink | undefined;
  /** A loopback address that leads to the relay, as the machine's network does. */
  readonly url: string;
  readonly guest: RunnerDouble;
  readonly machineToken: string;
  /** Claims the payload. */
  handOver(): Promise<Record<string, unknown>>;
}

export interface RelayBench {
  readonly gitlab: StandInGitLab;
  readonly store: Store;
  readonly relay: Relay;
  readonly directory: string;
  readonly runnerToken: string;
  machine(
    definition?: Partial<JobDefinition>,
    features?: Record<string, boolean>,
    project?: Project,
    pipeline?: NewPipeline,
  ): Promise<BenchMachine>;
  /** Puts a new relay in the place of the old one, as a restart of the program does: servers of `machines` are opened again. */
  restart(machines: readonly BenchMachine[]): Promise<void>;
  close(): Promise<void>;
}

/** Relay, store and stand-in GitLab joined on loopback, without machines: tests play the guests. */
export async function createRelayBench(options: RelayBenchOptions = {}): Promise<RelayBench> {
  const directory = await mkdtemp(join(tmpdir(), "fr-relay-"));
  const gitlab = createStandInGitLab(options.gitlab);
  await gitlab.listen();
  const defaultProject = await gitlab.projects.add();
  const runnerToken = gitlab.runners.add({ tags: [], runUntagged: true }).token;
  const claimer = createRunnerDouble(gitlab.url);
  const clock = systemClock;
  const store = await createStore({
    database: ":memory:",
    keyFile: join(directory, "key"),
    clock,
    log: silentLog,
  });
  const http = createGitLabHttp({ url: options.gitlabUrl ?? gitlab.url });
  const pools = new Map([["small", aPool(options.pool)]]);
  const closing: (() => Promise<unknown>)[] = [];
  /** Where the first relay listened: the next one of this bench listens there too. */
  let listen = "127.0.0.1:0";
  let relay = await newRelay();

  async function newRelay(): Promise<Relay> {
    const network = options.network ? { listen: [listen] } : {};
    const relay = createRelay({
      store: options.wrapStore?.(store) ?? store,
      http,
      api: createRunnerApi({ http, clock, version: "0.1.0", systemId: "s_0123456789ab" }),
      pools: () => pools,
      bootData: async (machineId) => `machine=${machineId}\n`,
      clock,
      log: silentLog,
      config: { ...RelaySettings.parse(network), ...options.settings },
      directory: join(directory, "relay"),
      ...options.relay,
    });
    await relay.start();
    return relay;
  }

  /** Opens its server; as a driver does, a machine on another host is given its link before it boots. */
  async function openEndpoint(id: string, socketPath: string): Promise<RelayLink | undefined> {
    await relay.open(id, options.network ? undefined : socketPath);
    if (!options.network) return undefined;
    const link = await relay.link(id);
    listen = link.address;
    return link;
  }

  async function machine(
    definition: Partial<JobDefinition> = {},
    features?: Record<string, boolean>,
    project: Project = defaultProject,
    pipeline: NewPipeline = {},
  ): Promise<BenchMachine> {
    const job = await gitlab.addJob(project, definition, pipeline);
    const answer = await claimer.requestJob(runnerToken, features ? { features } : {});
    const payload = answer.json();
    const [jobId, token] = [payload["id"] as number, payload["token"] as string];
    const id = newMachineId();
    await store.claim(aClaim({ jobId, payload: JSON.stringify(payload) }));
    await store.startJob(jobId, aNewMachine({ id }));
    const socketPath = join(directory, `${id}.sock`);
    const link = await openEndpoint(id, socketPath);
    await store.markBooting(id);
    const dial = () => connect({ path: socketPath, allowHalfOpen: true });
    const bridge = await bridgeTo(link ? () => dialLink(link, preambleOf(id, link)) : dial);
    const guest = createRunnerDouble(bridge.url);
    closing.push(guest.close, bridge.close);
    const machineToken = store.machineToken(id).reveal();
    const handOver = async () => (await guest.claim(machineToken)).payload;
    return { id, job, token, socketPath, link, url: bridge.url, guest, machineToken, handOver };
  }

  return {
    gitlab,
    store,
    get relay() {
      return relay;
    },
    directory,
    runnerToken,
    machine,
    async restart(machines) {
      await relay.stop();
      relay = await newRelay();
      const server: GuestEndpoint = relay;
      for (const { id, link, socketPath } of machines) await server.open(id, link ? undefined : socketPath);
    },
    async close() {
      for (const close of closing) await close();
      await relay.stop();
      await claimer.close();
      await http.close();
      await store.close();
      await gitlab.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

export function preambleOf(id: string, link: RelayLink): string {
  return `FIRERUNNER/1 ${id} ${link.secret.reveal()}`;
}

/** A connection to the relay's network side that trusts what the link says, with its first line sent. */
export function dialLink({ address, ca }: RelayLink, preamble: string): TLSSocket {
  const [host = "", port] = address.split(":");
  const socket = connectTls({ host, port: Number(port), ca, ...{ allowHalfOpen: true } });
  // Two pipelines of a bridge take more listeners than Node expects of one socket.
  socket.setMaxListeners(20);
  socket.write(`${preamble}\n`);
  return socket;
}

/** A loopback port that leads elsewhere, one connection each, for clients that speak only TCP. */
export async function bridgeTo(
  dial: () => Socket,
): Promise<{ url: string; cut: () => void; close: () => Promise<void> }> {
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const relay = dial();
    for (const socket of [client, relay]) {
      sockets.add(socket);
      socket.on("error", () => {}).on("close", () => sockets.delete(socket));
    }
    pipeline(client, relay).catch(() => client.destroy());
    pipeline(relay, client).catch(() => relay.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    url: `http://127.0.0.1:${address.port}`,
    cut,
    close: async () => {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
