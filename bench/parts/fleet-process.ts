/** FireRunner with a fleet of Flintlock hosts, in a process of its own: every component and every driver as the program has them. */

import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { shellFeatures } from "@firerunner/gitlab-stand-in/test-clients";
import { stringify } from "yaml";
import type { Cleanup } from "../../src/app/cleanups.ts";
import { type Components, composeApp } from "../../src/app/compose.ts";
import { systemClock } from "../../src/base/clock.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { ImageSource } from "../../src/scheduler/ports.ts";
import { createLog } from "../../src/telemetry/log.ts";
import { createFleet } from "../../src/vm/fleet.ts";
import { createFlintlockDriver } from "../../src/vm/flintlock/driver.ts";
import { publishedImage } from "../../test/flintlockd/harness.ts";
import { serveParent } from "./child.ts";
import { createSampler } from "./sampler.ts";

interface FleetOptions {
  readonly gitlabUrl: string;
  readonly stateDirectory: string;
  readonly token: string;
  /** Of hosts. */
  readonly addresses: readonly string[];
  readonly machinesPerHost: number;
  readonly relayPort: number;
}

const runnerInfo = { name: "gitlab-runner", executor: "shell", shell: "bash", features: shellFeatures };
const images: ImageSource = { resolve: async () => ({ ...publishedImage, runnerInfo }) };
const cleanups: Cleanup[] = [];
const sample = createSampler();
let components: Components | undefined;

async function start(options: FleetOptions): Promise<void> {
  const config = await loadConfig({ file: await writeConfig(options), env: {} });
  const { log } = createLog({ settings: config.log, terminal: false });
  const drivers = [...config.hosts.values()].map((host) =>
    createFlintlockDriver({
      ...{ host, log, clock: systemClock, random: Math.random },
      namespace: "fr-bench",
      settings: config.vm.flintlock,
    }),
  );
  const overrides = { fleet: createFleet(drivers), images };
  components = await composeApp({ config: () => config, log, version: "0.1.0", overrides }, cleanups);
  playGuests(components);
  components.scheduler.start();
  components.claimer.start();
}

/** Guests take their jobs and are silent from then on, as those of a job that sleeps. */
function playGuests({ store }: Components): void {
  store.onEvent(({ kind, machineId, jobId }) => {
    if (kind !== "machine:booting" || machineId === null || jobId === null) return;
    void store.markReady(machineId).then(() => store.handOver(jobId, machineId));
  });
}

async function writeConfig(options: FleetOptions): Promise<string> {
  const { gitlabUrl, stateDirectory, token, addresses, machinesPerHost, relayPort } = options;
  await mkdir(stateDirectory, { recursive: true, mode: 0o700 });
  const file = join(dirname(stateDirectory), "firerunner.yaml");
  const size = { cpus: 1, memory: "1GiB", disk: "1GiB" };
  const host = (address: string) => ({
    ...{ address, plaintext: true, cpus: machinesPerHost, memory: "64GiB" },
    machines: machinesPerHost,
  });
  const fleet = {
    pools: { fleet: { driver: "flintlock", size, runner: { token }, concurrency: 10_000, egress: "none" } },
    relay: { listen: [`127.0.0.1:${relayPort}`] },
    vm: {
      flintlock: {
        hosts: Object.fromEntries(addresses.map((each, index) => [`metal-${index}`, host(each)])),
      },
    },
  };
  const alone = { pools: { fake: { driver: "fake", runner: { token }, egress: "none" } } };
  const text = stringify({
    gitlab: { url: gitlabUrl },
    state: stateDirectory,
    log: { format: "json" },
    ...(addresses.length > 0 ? fleet : alone),
  });
  await writeFile(file, text, { mode: 0o600 });
  return file;
}

async function runningJobs(): Promise<number> {
  const jobs = (await components?.store.jobs({ unfinished: true })) ?? [];
  return jobs.filter(({ state }) => state === "running").length;
}

const handlers = {
  start,
  sample: (_: undefined) => sample(),
  running: (_: undefined) => runningJobs(),
};
export type FleetHandlers = typeof handlers;

serveParent(handlers, async () => {
  await components?.scheduler.stop();
  for (const cleanUp of cleanups.reverse()) await cleanUp();
});
