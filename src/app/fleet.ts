/** This computer's drivers and the hosts that the configuration names, joined. */
import { systemClock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { isSameHost } from "../config/hosts.ts";
import type { Config } from "../config/load.ts";
import { registryAsker } from "../image/registry/holding.ts";
import { installationMark } from "../runners/runner-mark.ts";
import type { Store } from "../store/store.ts";
import { createLocalFleet } from "../vm/drivers.ts";
import type { ChangingFleet } from "../vm/fleet.ts";
import { createFlintlockDriver } from "../vm/flintlock/driver.ts";
import type { FlintlockHost } from "../vm/flintlock/host.ts";
import { createHostRegistry, type HostRegistry } from "./host-registry.ts";

/** Gives back one thing that was taken. */
export type Cleanup = () => Promise<unknown> | unknown;

export interface FleetOptions {
  readonly config: Config;
  readonly store: Store;
  readonly log: Log;
}

export interface KeptFleet {
  readonly fleet: ChangingFleet;
  readonly keeper: HostRegistry<FlintlockHost>;
}

/** What was taken is added to `cleanups`. */
export async function buildFleet(options: FleetOptions, cleanups: Cleanup[]): Promise<KeptFleet> {
  const { config, store } = options;
  const log = options.log.child({ component: "vm" });
  const own = { stateDirectory: config.state, settings: config.vm, clock: systemClock, log };
  const fleet = createLocalFleet(own);
  cleanups.push(() => fleet.close());
  const namespace = await namespaceOf(config, store.installationId);
  const askRegistry = registryAsker({ proxies: config.proxy });
  const make = (host: FlintlockHost) =>
    createFlintlockDriver({
      ...{ host, namespace, log, askRegistry, clock: systemClock, random: Math.random },
      settings: config.vm.flintlock,
    });
  const keeper = createHostRegistry<FlintlockHost>({ fleet, store, make, isSame: isSameHost, log });
  cleanups.push(() => keeper.close());
  await keeper.apply(config.hosts);
  return { fleet, keeper };
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
