/** All hosts of this installation, as they come and go, and what they have to give together. */
import { createListeners } from "../base/listeners.ts";
import { type HostCapacity, hostKey } from "../domain/placement.ts";
import type { Fleet, VmDriver } from "./driver.ts";

/** A fleet whose hosts may be replaced. */
export interface ChangingFleet extends Fleet {
  /** Adds a host, in place of one of the same key, which is not closed here. */
  add(driver: VmDriver): void;
  /** Takes a host away and answers it, for its user to close. */
  remove(key: string): VmDriver | undefined;
  close(): Promise<void>;
}

/** Joins hosts. Closing it closes them. */
export function createFleet(drivers: readonly VmDriver[]): ChangingFleet {
  const exits = createListeners<string>();
  const stops = new Map<string, () => void>();
  let hosts: ReadonlyMap<string, VmDriver> = new Map();

  function remove(key: string): VmDriver | undefined {
    const driver = hosts.get(key);
    stops.get(key)?.();
    stops.delete(key);
    // A new map each time: whoever walks through the old one is not disturbed.
    hosts = new Map([...hosts].filter(([each]) => each !== key));
    return driver;
  }

  function add(driver: VmDriver): void {
    const key = hostKey({ driver: driver.name, host: driver.host });
    remove(key);
    stops.set(key, driver.onExit(exits.emit));
    hosts = new Map([...hosts, [key, driver]]);
  }

  for (const driver of drivers) add(driver);
  return {
    hosts: () => hosts,
    onExit: exits.add,
    add,
    remove,
    async close() {
      await Promise.all([...hosts.keys()].map((key) => remove(key)?.close()));
    },
  };
}

export type HostTotals = Pick<HostCapacity, "key" | "driver" | "labels" | "capacity">;

/** What every host has to give, whatever is taken of it. Rejects when one cannot tell. */
export async function capacitiesOf(fleet: Pick<Fleet, "hosts">): Promise<HostTotals[]> {
  const asked = [...fleet.hosts()].map(async ([key, driver]) => ({
    ...{ key, driver: driver.name, labels: driver.labels },
    capacity: await driver.capacity(),
  }));
  return await Promise.all(asked);
}
