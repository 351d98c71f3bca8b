/** The drivers that there are, as data: what makes a driver of each row of domain/drivers.ts. */
import type { Clock } from "../base/clock.ts";
import type { DiskLedger } from "../base/disk-ledger.ts";
import type { Log } from "../base/log.ts";
import { type LocalDriverName, localDrivers } from "../domain/drivers.ts";
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
  /** What gives way to machines' disks; by default nothing. */
  readonly caches?: DiskLedger | undefined;
}

/** What makes a driver of each row of domain/drivers.ts that runs machines on this computer. */
const makers: Readonly<Record<LocalDriverName, (deps: DriverDeps) => VmDriver>> = {
  qemu: createQemuDriver,
  fake: ({ clock, stateDirectory }) =>
    createFakeDriver({ host: createFakeHost(clock), directory: `${stateDirectory}/fake-machines` }),
};

/** This computer, once for each of its drivers. Making them starts nothing; close the fleet at the end. */
export function createLocalFleet(deps: DriverDeps): ChangingFleet {
  return createFleet(localDrivers.map((name) => makers[name](deps)));
}
