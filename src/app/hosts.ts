/** Keeps the fleet's hosts as the configuration names them: they come, change and go with a reload. */
import { systemClock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { isSameHost } from "../config/hosts.ts";
import type { Config } from "../config/load.ts";
import { hostKey } from "../domain/placement.ts";
import { registryAsker } from "../registry/holding.ts";
import { installationMark } from "../runners/runner-mark.ts";
import type { EventStore, MachineStore, Store } from "../store/store.ts";
import type { VmDriver } from "../vm/driver.ts";
import type { ChangingFleet } from "../vm/fleet.ts";
import type { FlintlockHost } from "../vm/flintlock/config.ts";
import type { createFlintlockDriver } from "../vm/flintlock/driver.ts";

interface HostRegistryOptions {
  readonly config: Config;
  readonly fleet: ChangingFleet;
  readonly store: Store;
  readonly log: Log;
}

/** Of hosts with flintlockd. Has none yet: `apply` gives it those of a configuration. */
export async function openHostRegistry(options: HostRegistryOptions): Promise<HostRegistry<FlintlockHost>> {
  const { config, fleet, store } = options;
  const log = options.log.child({ component: "vm" });
  const namespace = await namespaceOf(config, store.installationId);
  const askRegistry = registryAsker({ proxies: config.proxy });
  let create: typeof createFlintlockDriver | undefined;
  const make = (host: FlintlockHost) => {
    if (create === undefined) throw new Error("a driver is wanted before it was loaded");
    return create({
      host,
      namespace,
      settings: config.vm.flintlock,
      askRegistry,
      clock: systemClock,
      random: Math.random,
      log,
    });
  };
  const registry = createHostRegistry<FlintlockHost>({ fleet, store, make, isSame: isSameHost, log });
  return {
    ...registry,
    async apply(hosts) {
      // Its libraries take memory that is of no use to whoever has this computer alone.
      if (hosts.size > 0) create ??= (await import("../vm/flintlock/driver.ts")).createFlintlockDriver;
      await registry.apply(hosts);
    },
  };
}

/** The same after the store was lost: machines of before are then found, and removed. */
export async function namespaceOf(
  config: Pick<Config, "state" | "webhook">,
  installationId: string,
): Promise<string> {
  const configured = config.webhook?.installation;
  const mark = await installationMark({ configured, state: config.state, installationId });
  const plain = mark.toLowerCase().replace(/[^a-z0-9-]+/g, "-");
  return `fr-${plain}`.slice(0, 40);
}

export interface HostRegistry<Host> {
  /** Resolves when the fleet is as named. A host that is gone stays, closed to new machines, until its last machine is gone. */
  apply(hosts: ReadonlyMap<string, Host>): Promise<void>;
  /** True for a host that is not configured any more and still has machines. */
  isLeaving(key: string): boolean;
  close(): void;
}

interface HostRegistryDeps<Host> {
  readonly fleet: ChangingFleet;
  readonly store: Pick<MachineStore, "machines"> & Pick<EventStore, "onEvent">;
  readonly make: (host: Host) => VmDriver;
  readonly isSame: (a: Host, b: Host) => boolean;
  readonly log: Log;
}

interface Kept<Host> {
  readonly host: Host;
  readonly driver: VmDriver;
}

export function createHostRegistry<Host>(deps: HostRegistryDeps<Host>): HostRegistry<Host> {
  const { fleet, store, make, isSame, log } = deps;
  const kept = new Map<string, Kept<Host>>();
  const leaving = new Map<string, VmDriver>();
  const stopHearing = store.onEvent(({ kind }) => {
    if (kind === "machine:gone" && leaving.size > 0) void dismiss();
  });

  function put(name: string, host: Host): void {
    const driver = make(host);
    kept.set(name, { host, driver });
    leaving.delete(keyOf(driver));
    // In place of the one of before, so that there is no moment without the host.
    const before = fleet.hosts().get(keyOf(driver));
    fleet.add(driver);
    void before?.close();
  }

  function withdraw(name: string, { driver }: Kept<Host>): void {
    kept.delete(name);
    leaving.set(keyOf(driver), driver);
    fleet.add({ ...driver, trouble: () => removed });
  }

  /** Lets go of hosts that are leaving and have no machine any more. */
  async function dismiss(): Promise<void> {
    try {
      const machines = await store.machines({ live: true });
      const needed = new Set(machines.map(hostKey));
      for (const [key, driver] of leaving) {
        if (needed.has(key)) continue;
        leaving.delete(key);
        fleet.remove(key);
        await driver.close();
      }
    } catch (error) {
      log.warn({ err: error }, "hosts that were removed could not be let go of yet");
    }
  }

  return {
    async apply(hosts) {
      for (const [name, each] of kept) if (!hosts.has(name)) withdraw(name, each);
      for (const [name, host] of hosts) {
        const before = kept.get(name);
        if (before === undefined || !isSame(before.host, host)) put(name, host);
      }
      await dismiss();
    },
    isLeaving: (key) => leaving.has(key),
    close: () => void stopHearing(),
  };
}

const removed = {
  problem: "it was removed from the configuration; it goes when its last machine has ended",
  hint: undefined,
};

function keyOf({ name, host }: VmDriver): string {
  return hostKey({ driver: name, host });
}
