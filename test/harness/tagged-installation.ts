/** Jobs by tag with everything but a hypervisor: the real components and servers, fake machines, and the stand-in GitLab with its hooks. */

import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createStandInGitLab, type StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import { shellFeatures } from "@firerunner/gitlab-stand-in/test-clients";
import { stringify } from "yaml";
import type { Cleanup } from "../../src/app/cleanups.ts";
import { type Components, composeApp } from "../../src/app/compose.ts";
import { metricsOf } from "../../src/app/metrics.ts";
import { openServers } from "../../src/app/servers.ts";
import { systemClock } from "../../src/base/clock.ts";
import { type Log, silentLog } from "../../src/base/log.ts";
import { loadConfig } from "../../src/config/load.ts";
import { freePort } from "../../src/demo/workspace.ts";
import type { Capacity, Size } from "../../src/domain/size.ts";
import { newSigningKey } from "../../src/gitlab/webhook-signature.ts";
import type { ImageSource } from "../../src/scheduler/ports.ts";
import { createFakeDriver } from "../../src/vm/fake/driver.ts";
import { createFakeHost, type FakeHost } from "../../src/vm/fake/host.ts";
import { createFleet } from "../../src/vm/fleet.ts";
import { playGuest } from "./fake-guest.ts";

export interface TaggedOptions {
  /** Laid over `webhook`. */
  readonly webhook?: Readonly<Record<string, unknown>>;
  /** Laid over `webhook.runners`. */
  readonly runners?: Readonly<Record<string, unknown>>;
  /** Further sections of the configuration. */
  readonly settings?: Readonly<Record<string, unknown>>;
  readonly log?: Log;
  readonly capacity?: Capacity;
  /** How long each job works, or each in a machine of this size. */
  readonly workMs?: number | ((size: Size) => number);
  /** The day on which the API token ends: `2026-12-31`. */
  readonly tokenExpiresAt?: string;
  /** `metrics` of the configuration. */
  readonly metrics?: Readonly<Record<string, unknown>>;
}

/** One job in one machine. */
interface Run {
  readonly jobId: number;
  readonly size: Size;
  /** All that the guest was told: its boot data and its payload. */
  readonly given: string;
}

export interface TaggedInstallation extends AsyncDisposable {
  readonly gitlab: StandInGitLab;
  readonly components: Components;
  readonly host: FakeHost;
  /** Each payload that a guest was given, with its machine's size. */
  readonly runs: readonly Run[];
  /** What guests met that they should not have. */
  readonly guestProblems: readonly unknown[];
  /** Most that machines took together at any time. */
  readonly mostTaken: { cpus: number; memoryMib: number; machines: number };
  /** Where machines have their sockets. */
  readonly machineDirectory: string;
  /** Undefined where no metrics are asked for. */
  readonly metricsUrl: string | undefined;
}

/** The group served; projects of the stand-in belong below it. */
export const servedGroup = "served";

const image = {
  digest: `sha256:${"0".repeat(64)}`,
  architecture: "amd64",
  kernel: "",
  initramfs: "",
  layers: [],
};
const runnerInfo = { name: "gitlab-runner", executor: "shell", shell: "bash", features: shellFeatures };
const images: ImageSource = { resolve: async () => ({ ...image, runnerInfo }) };

/** Starts all of it; GitLab's hook leads to the public server. */
export async function startTaggedInstallation(options: TaggedOptions = {}): Promise<TaggedInstallation> {
  const directory = await mkdtemp(join(tmpdir(), "fr-tagged-"));
  const cleanups: Cleanup[] = [() => rm(directory, { recursive: true, force: true, maxRetries: 5 })];
  const gitlab = createStandInGitLab();
  await gitlab.listen();
  cleanups.push(() => gitlab.close());
  gitlab.groups.at(servedGroup);
  const config = await configure(directory, gitlab, options);
  const host = createFakeHost(systemClock);
  const machineDirectory = join(directory, "m");
  const capacity = options.capacity === undefined ? {} : { capacity: options.capacity };
  const driver = createFakeDriver({ host, directory: machineDirectory, ...capacity });
  const overrides = { fleet: createFleet([driver]), images };
  const { log = silentLog } = options;
  const metrics = await metricsOf(config, log, cleanups);
  const components = await composeApp(
    { config: () => config, log, version: "0", overrides, metrics },
    cleanups,
  );
  const about = { version: "0", startedAt: systemClock.now() };
  const { metricsServer } = await openServers(
    components,
    { config: () => config, about, reload: async () => [], metrics, log },
    cleanups,
  );
  const records = {
    runs: [] as Run[],
    guestProblems: [] as unknown[],
    mostTaken: { cpus: 0, memoryMib: 0, machines: 0 },
  };
  playAll(host, driver.relaySocket, records, options.workMs ?? 20);
  await installHook(components, config);
  components.scheduler.start();
  components.tagged?.start();
  components.claimer.start();

  return {
    ...{ gitlab, components, host, machineDirectory, ...records },
    metricsUrl: metricsServer && `${metricsServer.addresses[0]}/metrics`,
    async [Symbol.asyncDispose]() {
      components.scheduler.drain();
      await Promise.all([components.tagged?.stop(), components.claimer.stop()]);
      await components.scheduler.stop();
      for (const cleanUp of cleanups.reverse()) await cleanUp();
    },
  };
}

type Config = Awaited<ReturnType<typeof loadConfig>>;

/** A file as an operator would write it. */
async function configure(directory: string, gitlab: StandInGitLab, options: TaggedOptions): Promise<Config> {
  const state = join(directory, "state");
  await mkdir(state, { mode: 0o700 });
  const listen = `127.0.0.1:${await freePort()}`;
  const ends = options.tokenExpiresAt === undefined ? {} : { expiresAt: options.tokenExpiresAt };
  const { token } = gitlab.tokens.add({ scopes: ["api"], memberOf: servedGroup, ...ends });
  const settings = {
    gitlab: { url: gitlab.url },
    state,
    webhook: {
      group: servedGroup,
      apiToken: token,
      signingKey: newSigningKey().reveal(),
      url: `http://${listen}/webhook`,
      machine: { driver: "fake", egress: "none" },
      runners: options.runners ?? {},
      ...options.webhook,
    },
    http: { listen: [`http://${listen}`] },
    metrics: options.metrics ?? {},
    // On a busy computer jobs take seconds, and the question whether one is still wanted may cross with its end on the way.
    scheduler: { standingInterval: "1h" },
    ...options.settings,
  };
  const file = join(directory, "firerunner.yaml");
  await writeFile(file, stringify(settings), { mode: 0o600 });
  return await loadConfig({ file, env: {} });
}

async function installHook({ tagged }: Components, { webhook }: Config): Promise<void> {
  if (!tagged || !webhook?.url) throw new Error("the configuration has no webhook");
  const scope = await tagged.rest.findScope({ kind: "group", name: servedGroup });
  const [signingToken] = webhook.secrets.signingKeys;
  await tagged.rest.createHook(scope, { url: webhook.url, signingToken, token: undefined });
}

type Records = {
  runs: Run[];
  guestProblems: unknown[];
  mostTaken: { cpus: number; memoryMib: number; machines: number };
};

function playAll(
  host: FakeHost,
  socketOf: (machineId: string) => string,
  { runs, guestProblems, mostTaken }: Records,
  workMs: number | ((size: Size) => number),
): void {
  const alive = new Map<string, Size>();

  host.onCreate = async ({ spec: { id, size }, signal, end }) => {
    alive.set(id, size);
    signal.addEventListener("abort", () => alive.delete(id));
    noteMost();
    try {
      await playGuest(socketOf(id), {
        workMs: typeof workMs === "number" ? workMs : workMs(size),
        signal,
        onJob: (jobId, given) => runs.push({ jobId, size, given }),
      });
      end("orderly");
    } catch (error) {
      // What a machine that was destroyed does not get any more is no problem.
      if (!signal.aborted) guestProblems.push(error);
      throw error;
    }
  };

  function noteMost(): void {
    const sizes = [...alive.values()];
    const sum = (key: "cpus" | "memoryMib") => sizes.reduce((total, size) => total + size[key], 0);
    mostTaken.cpus = Math.max(mostTaken.cpus, sum("cpus"));
    mostTaken.memoryMib = Math.max(mostTaken.memoryMib, sum("memoryMib"));
    mostTaken.machines = Math.max(mostTaken.machines, sizes.length);
  }
}
