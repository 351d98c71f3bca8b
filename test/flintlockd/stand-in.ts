/**
 * A flintlockd with its host, for tests: real HTTP/2 and TLS, the daemon's answers word for word, and its faults. What a daemon
 * forgets and what its host keeps are apart, so it can be killed, restarted, cut off and reinstalled like a real one.
 */
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { freePort } from "../../src/demo/workspace.ts";
import { eventually } from "../harness/eventually.ts";
import { type CallFaults, createCallFaults } from "./call-faults.ts";
import { routes } from "./calls.ts";
import type { StoredMachine } from "./content.ts";
import { type Daemon, startDaemon } from "./daemon.ts";
import { createHost, machinesOf, type StandInMachine, wipe } from "./host.ts";
import { type Listener, listen } from "./listener.ts";
import { type StandInOptions, settle } from "./options.ts";
import { createService } from "./service.ts";
import { createWire, type Wire } from "./wire.ts";

export interface Flintlockd extends AsyncDisposable, Omit<CallFaults, "take"> {
  /** `127.0.0.1:port`, the same for its whole life. */
  readonly address: string;
  readonly running: boolean;
  /** Why it ended, each time that it did so by itself. */
  readonly crashes: readonly string[];
  readonly wire: Wire;
  readonly isDeaf: boolean;
  readonly loopSteps: number;
  readonly logLines: number;
  start(): Promise<void>;
  /** SIGTERM or SIGKILL, which are the same to it. Machines run on. */
  kill(): Promise<void>;
  restart(): Promise<void>;
  restartContainerd(): void;
  stopContainerd(): void;
  /** The daemon hears nothing of it until its own restart. */
  startContainerd(): void;
  resync(): void;
  /** The network to the host is gone and back; the daemon works on. */
  vanish(): Promise<void>;
  comeBack(): Promise<void>;
  /** Power is lost: daemon and machines end, content and disks stay. */
  powerOff(): Promise<void>;
  /** The host starts anew with nothing on it. */
  reinstall(): Promise<void>;
  /** What the host holds now, and its return to that: machines deleted since are back, and booted by the start's resync. */
  backUp(): readonly StoredMachine[];
  restoreBackUp(machines: readonly StoredMachine[]): Promise<void>;
  /** `ctr -n flintlock leases rm flintlock/<namespace>/<id>/<uid>`: the cure for a poison spec. */
  removeLease(uid: string): void;
  machines(): StandInMachine[];
  /** By the client's id; throws when there is none, or more than one. */
  machine(id: string): StandInMachine;
  /** The guest's own end, or its crash. */
  exitGuest(uid: string): void;
  /** Waits until the machines are as hoped. */
  until(hope: string, isSo: (machines: readonly StandInMachine[]) => boolean): Promise<void>;
  /** Waits until the daemon has nothing left to do. */
  idle(): Promise<void>;
}

export async function startFlintlockd(options: StandInOptions = {}): Promise<Flintlockd> {
  const settings = settle(options);
  const { clock, security, times } = settings;
  const host = createHost(settings);
  const wire = createWire();
  const crashes: string[] = [];
  const { next, always, take: takeFault } = createCallFaults();
  let daemon: Daemon | undefined;
  let listener: Listener | undefined;
  const port = await freePort();
  let disposed = false;

  const service = createService(host, () => ({
    announce: (uid) => daemon?.announce(uid),
    crash: (reason) => {
      crash(reason);
      return new Error(reason);
    },
  }));
  const handler = connectNodeAdapter({
    // As the real one: gRPC alone, and no compression.
    connect: false,
    grpcWeb: false,
    acceptCompression: [],
    routes: routes({
      settings,
      service,
      wire,
      takeFault,
      drop: () => listener?.dropConnections(),
    }),
  });

  async function openListener(): Promise<void> {
    if (listener) return;
    const tls = typeof security === "string" ? undefined : security;
    listener = await listen({ port, tls, wire, serve: handler, now: clock.now });
    // An address all the same, where nobody answers.
    if (security === "none") await shutServer();
  }

  async function shutServer(): Promise<void> {
    const open = listener;
    listener = undefined;
    await open?.close();
  }

  async function start(): Promise<void> {
    if (daemon) return;
    await clock.sleep(times.startMs);
    if (daemon || disposed) return;
    const own = startDaemon(host, (reason) => {
      if (daemon === own) crash(reason);
    });
    daemon = own;
    await openListener();
  }

  async function kill(): Promise<void> {
    daemon?.end();
    daemon = undefined;
    await shutServer();
  }

  function crash(reason: string): void {
    crashes.push(reason);
    listener?.dropConnections();
    const comeBack = async () => {
      await kill();
      if (settings.restartAfterCrashMs === undefined) return;
      await clock.sleep(settings.restartAfterCrashMs);
      if (!disposed) await start();
    };
    comeBack().catch((error) => crashes.push(String(error)));
  }

  const machines = () => machinesOf(host);

  await start();
  return {
    get address() {
      return `127.0.0.1:${port}`;
    },
    get running() {
      return daemon !== undefined;
    },
    crashes,
    wire,
    get isDeaf() {
      return daemon?.isDeaf ?? false;
    },
    get loopSteps() {
      return daemon?.loopSteps ?? 0;
    },
    get logLines() {
      return daemon?.logLines ?? 0;
    },
    start,
    kill,
    async restart() {
      await kill();
      await start();
    },
    restartContainerd: () => daemon?.loseEvents(),
    stopContainerd() {
      host.isContainerdDown = true;
      daemon?.loseEvents();
    },
    startContainerd() {
      host.isContainerdDown = false;
    },
    resync: () => daemon?.resync(),
    vanish: shutServer,
    comeBack: openListener,
    async powerOff() {
      await kill();
      await host.processes.powerOff();
    },
    async reinstall() {
      await kill();
      await wipe(host);
      host.images.clear();
      await start();
    },
    backUp: host.content.all,
    async restoreBackUp(machines) {
      await kill();
      await wipe(host);
      for (const machine of machines) host.content.save(machine);
      await start();
    },
    removeLease: (uid) => host.content.remove(uid),
    next,
    always,
    machines,
    machine(id) {
      const [found, ...more] = machines().filter((each) => each.id === id);
      if (!found || more.length > 0)
        throw new Error(`${more.length + (found ? 1 : 0)} machines with the id ${id}`);
      return found;
    },
    exitGuest: host.processes.exit,
    until: async (hope, isSo) => void (await eventually(hope, () => isSo(machines()))),
    idle: async () => void (await eventually("the daemon is idle", () => (daemon?.pending ?? 0) === 0)),
    async [Symbol.asyncDispose]() {
      disposed = true;
      await kill();
      await wipe(host);
    },
  };
}
