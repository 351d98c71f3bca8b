import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { VmConfig } from "./config.ts";
import type { VmDriver } from "./driver.ts";
import { createFakeDriver } from "./fake/driver.ts";
import { createFakeHost } from "./fake/host.ts";
import { createQemuDriver } from "./qemu/driver.ts";

export interface DriverDeps {
  readonly stateDirectory: string;
  readonly settings: VmConfig;
  readonly clock: Clock;
  readonly log: Log;
}

/** Every driver there is, one line each, by the name that pools use. */
const makers: Readonly<Record<string, (deps: DriverDeps) => VmDriver>> = {
  qemu: createQemuDriver,
  fake: ({ clock, stateDirectory }) =>
    createFakeDriver({ host: createFakeHost(clock), directory: `${stateDirectory}/fake-machines` }),
};

/** The drivers there are, by name. */
export type Drivers = ReadonlyMap<string, VmDriver>;

/** All drivers by name. Making one starts nothing; close each at the end. */
export function createDrivers(deps: DriverDeps): Drivers {
  return new Map(Object.entries(makers).map(([name, make]) => [name, make(deps)]));
}
