/** FireRunner as the program itself builds it, but on machines in memory: everything except a hypervisor. */

import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { shellFeatures } from "@firerunner/gitlab-stand-in/test-clients";
import { stringify } from "yaml";
import type { Cleanup } from "../../src/app/cleanups.ts";
import { type Components, composeApp } from "../../src/app/compose.ts";
import { metricsOf, serveMetrics } from "../../src/app/metrics.ts";
import { daemonReads } from "../../src/app/reads.ts";
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { loadConfig } from "../../src/config/load.ts";
import { openImages } from "../../src/image/open-images.ts";
import type { ImageSource } from "../../src/scheduler/ports.ts";
import { createLog } from "../../src/telemetry/log.ts";
import type { VmDriver } from "../../src/vm/driver.ts";
import { createFakeDriver } from "../../src/vm/fake/driver.ts";
import { createFakeHost, type FakeHost } from "../../src/vm/fake/host.ts";
import { createFleet } from "../../src/vm/fleet.ts";
import { createQemuDriver } from "../../src/vm/qemu/driver.ts";

interface BenchPool {
  readonly name: string;
  readonly token: string;
  readonly concurrency: number;
  /** Machines that QEMU runs, small ones, instead of those in memory. */
  readonly real?: boolean;
}

export interface ComponentsOptions {
  readonly gitlabUrl: string;
  readonly stateDirectory: string;
  readonly pools: readonly BenchPool[];
  /** Nothing paces what guests send: for measuring what the relay itself costs. */
  readonly unpaced: boolean;
  /** `HOST:PORT` without TLS, from which jobs have images; then machines run containers. */
  readonly registry?: string | undefined;
  /** Where the images are that real machines boot; needed where a pool has some. */
  readonly imagesDirectory?: string;
  /** Counts for Prometheus, and serves it. */
  readonly metrics?: boolean | undefined;
}

export interface BenchComponents {
  readonly components: Components;
  readonly host: FakeHost;
  /** Where the relay listens for a machine. */
  relaySocket(machineId: string): string;
  /** Where metrics are; undefined where none are asked for. */
  readonly metricsUrl: string | undefined;
  stop(): Promise<void>;
}

const REMOVAL_MS = 4_000;
const unpacedSettings = { updatesPerMinute: 1_000_000, requestsPerSecond: 100_000 };

export const benchImage = {
  digest: `sha256:${"0".repeat(64)}`,
  architecture: "amd64",
  kernel: "",
  initramfs: "",
  layers: [],
};

/** Small, and many fit. */
const realPool = { driver: "qemu", size: { cpus: 1, memory: "512MiB", disk: "2GiB" } };
const realSettings = { cpuOvercommit: 4, memoryReserve: "1GiB" };

const runner = { name: "gitlab-runner", executor: "shell", shell: "bash", features: shellFeatures };
const containerRunner = { ...runner, executor: "docker", features: { ...shellFeatures, image: true } };

function noImages(runsContainers: boolean): ImageSource {
  const image = { ...benchImage, runnerInfo: runner };
  return {
    resolve: async () => (runsContainers ? { ...image, containerRunnerInfo: containerRunner } : image),
  };
}

export async function createComponents(options: ComponentsOptions): Promise<BenchComponents> {
  const { stateDirectory } = options;
  const file = await writeConfig(options);
  const loaded = await loadConfig({ file, env: {} });
  const config = options.unpaced ? { ...loaded, relay: { ...loaded.relay, ...unpacedSettings } } : loaded;
  const host = createFakeHost(systemClock);
  const driver = createFakeDriver({ host, directory: join(stateDirectory, "m") });
  const own = { stateDirectory, settings: config.vm, clock: systemClock, log: silentLog };
  const real = options.imagesDirectory === undefined ? undefined : createQemuDriver(own);
  const images =
    options.imagesDirectory === undefined
      ? noImages(options.registry !== undefined)
      : openImages(() => config);
  const cleanups: Cleanup[] = [() => driver.close()];
  // To standard output, which the parent throws away: logging is part of the work.
  const { log } = createLog({ settings: config.log, terminal: false });
  const metrics = await metricsOf(config, log, cleanups);
  const components = await composeApp(
    {
      config: () => config,
      ...{ log, metrics },
      version: "0.1.0",
      overrides: { fleet: createFleet(real ? [real, driver] : [driver]), images },
    },
    cleanups,
  );
  const server =
    metrics &&
    (await serveMetrics({
      ...{ metrics, components, log },
      config: () => config,
      reads: daemonReads(components, () => config, { version: "0.1.0", startedAt: systemClock.now() }),
      publicServer: undefined,
    }));
  if (server) cleanups.push(() => server.close());
  return {
    metricsUrl: server && `${server.addresses[0]}/metrics`,
    components,
    host,
    relaySocket: driver.relaySocket,
    async stop() {
      await components.scheduler.stop();
      // They would go on without us.
      if (real) await destroyAll(real);
      for (const cleanUp of cleanups.reverse()) await cleanUp();
    },
  };
}

async function destroyAll(driver: VmDriver): Promise<void> {
  const left = await driver.list(AbortSignal.timeout(REMOVAL_MS));
  await Promise.all(left.map(({ id }) => driver.destroy(id, AbortSignal.timeout(REMOVAL_MS))));
}

/** A file beside the state directory, as an operator would write it. */
async function writeConfig(options: ComponentsOptions): Promise<string> {
  const { gitlabUrl, stateDirectory, pools, imagesDirectory, registry, metrics } = options;
  // Real machines run as users of their own and must be able to pass through.
  await mkdir(stateDirectory, { recursive: true, mode: 0o711 });
  const file = join(dirname(stateDirectory), "firerunner.yaml");
  const poolOf = ({ token, concurrency, real }: BenchPool) => ({
    ...(real ? realPool : { driver: "fake" }),
    runner: { token },
    concurrency,
    egress: "none",
  });
  const text = stringify({
    gitlab: { url: gitlabUrl },
    state: stateDirectory,
    pools: Object.fromEntries(pools.map((pool) => [pool.name, poolOf(pool)])),
    log: { format: "json" },
    ...(metrics ? { metrics: { listen: ["http://127.0.0.1:0"] } } : {}),
    ...(registry === undefined ? {} : { containers: { registries: { [registry]: { plaintext: true } } } }),
    ...(imagesDirectory === undefined ? {} : { vm: realSettings, images: { directory: imagesDirectory } }),
  });
  await writeFile(file, text, { mode: 0o600 });
  return file;
}
