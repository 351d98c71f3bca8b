/** The drivers of a fleet, asked for their machines as often as the scheduler does. */
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import type { VmDriver } from "../../src/vm/driver.ts";
import { FlintlockConfig } from "../../src/vm/flintlock/config.ts";
import { createFlintlockDriver } from "../../src/vm/flintlock/driver.ts";
import { aFlintlockHost } from "../../test/builders/flintlock-host.ts";
import { serveParent } from "./child.ts";

interface DriversWish {
  readonly addresses: readonly string[];
  readonly namespace: string;
  readonly ca: string;
  /** The scheduler's tick. */
  readonly tickMs: number;
}

const ends = new AbortController();
let drivers: VmDriver[] = [];

const handlers = {
  /** How many machines the drivers show. */
  async start({ addresses, namespace, ca, tickMs }: DriversWish): Promise<number> {
    const { hosts: _, ...settings } = FlintlockConfig.parse({});
    const tls = { ca, certificate: undefined, key: undefined, serverName: "localhost" };
    drivers = addresses.map((address, number) =>
      createFlintlockDriver({
        host: aFlintlockHost({ name: `metal-${number}`, addresses: [address], tls }),
        namespace,
        settings,
        clock: systemClock,
        log: silentLog,
        random: Math.random,
      }),
    );
    for (const driver of drivers) driver.onExit(() => {});
    const lists = await Promise.all(drivers.map((driver) => driver.list(ends.signal)));
    void tick(tickMs);
    return lists.flat().length;
  },
  /** CPU time so far. */
  cpuMs(): number {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1_000;
  },
};

export type DriversHandlers = typeof handlers;

async function tick(tickMs: number): Promise<void> {
  while (!ends.signal.aborted) {
    await Promise.all(drivers.map((driver) => driver.list(ends.signal).catch(() => {})));
    await systemClock.sleep(tickMs, ends.signal).catch(() => {});
  }
}

serveParent(handlers, async () => {
  ends.abort();
  for (const driver of drivers) await driver.close();
});
