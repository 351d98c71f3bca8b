/** FireRunner as the program itself builds it, but on machines in memory: everything except a hypervisor. */
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { shellFeatures } from "@firerunner/gitlab-stand-in/runner-double";
import { stringify } from "yaml";
import { type Cleanup, type Components, composeApp } from "../../src/app/compose.ts";
import { systemClock } from "../../src/base/clock.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { ImageSource } from "../../src/scheduler/ports.ts";
import { createLog } from "../../src/telemetry/log.ts";
import { createFakeDriver } from "../../src/vm/fake/driver.ts";
import { createFakeHost, type FakeHost } from "../../src/vm/fake/host.ts";
import { createFleet } from "../../src/vm/fleet.ts";

interface BenchPool {
  readonly name: string;
  readonly token: string;
  readonly concurrency: number;
}

export interface RoomsOptions {
  readonly gitlabUrl: string;
  readonly stateDirectory: string;
  readonly pools: readonly BenchPool[];
  /** Nothing paces what guests send: for measuring what the relay itself costs. */
  readonly unpaced: boolean;
}

export interface BenchRooms {
  readonly rooms: Components;
  readonly host: FakeHost;
  /** Where the relay listens for a machine. */
  relaySocket(machineId: string): string;
  stop(): Promise<void>;
}

const unpacedSettings = { updatesPerMinute: 1_000_000, requestsPerSecond: 100_000 };

export const benchImage = {
  digest: `sha256:${"0".repeat(64)}`,
  architecture: "amd64",
  kernel: "",
  initramfs: "",
  layers: [],
};

const images: ImageSource = {
  resolve: async () => ({
    ...benchImage,
    runnerInfo: { name: "gitlab-runner", executor: "shell", shell: "bash", features: shellFeatures },
  }),
};

export async function createRooms(options: RoomsOptions): Promise<BenchRooms> {
  const { stateDirectory } = options;
  const file = await writeConfig(options);
  const loaded = await loadConfig({ file, env: {} });
  const config = options.unpaced ? { ...loaded, relay: { ...loaded.relay, ...unpacedSettings } } : loaded;
  const host = createFakeHost(systemClock);
  const driver = createFakeDriver({ host, directory: join(stateDirectory, "m") });
  const cleanups: Cleanup[] = [() => driver.close()];
  const rooms = await composeApp(
    {
      config: () => config,
      // To standard output, which the parent throws away: logging is part of the work.
      log: createLog({ settings: config.log, terminal: false }).log,
      version: "0.1.0",
      instead: { fleet: createFleet([driver]), images },
    },
    cleanups,
  );
  return {
    rooms,
    host,
    relaySocket: driver.relaySocket,
    async stop() {
      await rooms.scheduler.stop();
      for (const cleanUp of cleanups.reverse()) await cleanUp();
    },
  };
}

/** A file beside the state directory, as an operator would write it. */
async function writeConfig({ gitlabUrl, stateDirectory, pools }: RoomsOptions): Promise<string> {
  await mkdir(stateDirectory, { recursive: true, mode: 0o700 });
  const file = join(dirname(stateDirectory), "firerunner.yaml");
  const poolOf = ({ token, concurrency }: BenchPool) => ({
    driver: "fake",
    runner: { token },
    concurrency,
    egress: "none",
  });
  const text = stringify({
    gitlab: { url: gitlabUrl },
    state: stateDirectory,
    pools: Object.fromEntries(pools.map((pool) => [pool.name, poolOf(pool)])),
    log: { format: "json" },
  });
  await writeFile(file, text, { mode: 0o600 });
  return file;
}
