import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { openControlServer } from "../../src/server/control/control-server.ts";
import { createEventFeed } from "../../src/server/routes/event-routes.ts";
import type { ControlPorts } from "../../src/server/routes/ports.ts";
import { createStore } from "../../src/store/create-store.ts";
import type { Store } from "../../src/store/store.ts";
import type { DaemonStatus } from "../../src/views/api.ts";
import { createViews } from "../../src/views/views.ts";
import { aControlPorts } from "../builders/control-ports.ts";
import { aHostPorts } from "../builders/host-ports.ts";
import { commandLine, type Ended } from "./command-line.ts";

export const aDaemonStatus: DaemonStatus = {
  ...{ version: "1.2.3", pid: 42, startedAt: 0, mode: "run", configFile: null, stateDirectory: "/state" },
  ...{ gitlabUrl: "https://gitlab.example.com", gitlabProblem: null, fetching: [], troubles: [], caches: [] },
  pools: [
    {
      ...{ name: "small", origin: "configured", ok: true, problems: [], accelerator: "kvm", driver: "qemu" },
      ...{
        image: "base",
        size: { cpus: 1, memoryMib: 1_024, diskMib: 4_096 },
        limit: 4,
        claiming: "polling",
      },
      room: { machines: 4, byDisk: 4, note: null },
    },
  ],
  hosts: [
    {
      ...{
        key: "qemu",
        driver: "qemu",
        host: "local",
        labels: {},
        drained: false,
        problem: null,
        hint: null,
      },
      taken: { cpus: 1, memoryMib: 1_024, machines: 1, diskMib: 4_096 },
      capacity: { cpus: 8, memoryMib: 16_384, machines: 4, diskMib: null },
    },
  ],
};

/** What answers on a control socket, with a real store behind it, and command lines that find it. */
export interface ControlDaemon extends AsyncDisposable {
  readonly configFile: string;
  readonly store: Store;
  /** What was asked of it, in words. */
  readonly calls: string[];
  /** Answers from now on, as before. */
  open(): Promise<void>;
  /** Answers no more, as a program that has ended. */
  close(): Promise<void>;
  firerunner(...argv: readonly string[]): Promise<Ended>;
}

export async function aControlDaemon(change: Partial<ControlPorts> = {}): Promise<ControlDaemon> {
  const directory = await mkdtemp(join(tmpdir(), "fr-control-"));
  const state = join(directory, "state");
  const configFile = join(directory, "c.yaml");
  await mkdir(state);
  await writeFile(
    configFile,
    `gitlab: { url: http://127.0.0.1:9 }\npools: { small: { runner: { token: glrt-PLANTED } } }\nstate: ${state}\n`,
    { mode: 0o600 },
  );
  const store = await createStore({
    ...{ database: join(state, "firerunner.db"), keyFile: join(state, "key") },
    ...{ clock: systemClock, log: silentLog },
  });
  const calls: string[] = [];
  const ports: ControlPorts = {
    ...aControlPorts(),
    status: () => aDaemonStatus,
    events: createEventFeed(store.onEvent),
    hosts: aHostPorts(calls),
    console: async () => "booted\n",
    async *followConsole() {
      yield "and more\n";
    },
    drain: () => void calls.push("drain"),
    resume: () => void calls.push("resume"),
    ...change,
  };
  const views = createViews({ store, now: systemClock.now });
  const open = async () =>
    await openControlServer({ stateDirectory: state, views, ports, clock: systemClock, log: silentLog });
  let server: Awaited<ReturnType<typeof open>> | undefined = await open();
  const close = async () => {
    await server?.close();
    server = undefined;
  };
  return {
    configFile,
    calls,
    store,
    close,
    async open() {
      server ??= await open();
    },
    firerunner: async (...argv) => await commandLine(...argv, "--config", configFile),
    async [Symbol.asyncDispose]() {
      await close();
      await store.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
