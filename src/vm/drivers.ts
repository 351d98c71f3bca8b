import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { VmConfig } from "./config.ts";
import type { VmDriver } from "./driver.ts";
import { createFakeDriver } from "./fake/driver.ts";
import { createFakeHost } from "./fake/host.ts";
import { type ChangingFleet, createFleet } from "./fleet.ts";
import { createQemuDriver } from "./qemu/driver.ts";

export interface DriverDeps {
  readonly stateDirectory: string;
  readonly settings: VmConfig;
  readonly clock: Clock;
  readonly log: Log;
}

/** The drivers of this computer, one line each. */
const localDrivers: readonly ((deps: DriverDeps) => VmDriver)[] = [
  createQemuDriver,
  ({ clock, stateDirectory }) =>
    createFakeDriver({ host: createFakeHost(clock), directory: `${stateDirectory}/fake-machines` }),
];

/** This computer, once for each of its drivers. Making them starts nothing; close the fleet at the end. */
export function createLocalFleet(deps: DriverDeps): ChangingFleet {
  return createFleet(localDrivers.map((make) => make(deps)));
}
