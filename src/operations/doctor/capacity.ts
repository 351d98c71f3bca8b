/** How many machines of each pool there is room for, and whether it is disk that allows no more. */

import { systemClock } from "../../base/clock.ts";
import { silentLog } from "../../base/log.ts";
import type { Config } from "../../config/load.ts";
import { hostsSettingOf, isRemoteDriver, remoteDrivers } from "../../domain/drivers.ts";
import { hostKey } from "../../domain/placement.ts";
import type { Pool } from "../../domain/pool.ts";
import { poolCapacity } from "../../domain/pool.ts";
import { createLocalFleet } from "../../vm/drivers.ts";
import { capacitiesOf, type HostTotals } from "../../vm/fleet.ts";
import type { DoctorCheck, Finding } from "./check.ts";
import { answer } from "./findings.ts";

type Wanted = Pick<Config, "pools" | "state" | "vm" | "hosts">;

/** One check for each pool. What a FireRunner that runs has promised to its machines already is not told apart. */
export function capacityChecks(config: Wanted): DoctorCheck[] {
  return [...config.pools.values()].map((pool) => ({
    name: `room for pool ${pool.name}`,
    run: answer(async () => evaluateCapacity(pool, await roomsOf(config))),
  }));
}

export function evaluateCapacity(pool: Pool, hosts: readonly HostTotals[]): Finding {
  const { machines, byDisk, note } = poolCapacity(pool, hosts);
  if (note !== undefined) return { level: machines === 0 ? "fail" : "warn", message: note };
  const disk = byDisk === undefined ? "no limit by disk" : `disk for ${byDisk}`;
  const unlimited = hosts.filter(({ driver, capacity }) => driver === pool.driver && !capacity.diskMib);
  const message = `${machines} ${machines === 1 ? "machine" : "machines"} at one time, ${disk}`;
  if (!isRemoteDriver(pool.driver) || unlimited.length === 0) return { level: "ok", message };
  const names = unlimited.map(({ key }) => key.slice(key.indexOf("/") + 1)).join(", ");
  const hint = `No disk is configured for ${names}: as much is promised there as is asked for. Set ${hostsSettingOf(pool.driver)}.NAME.disk.`;
  return { level: "ok", message, hint };
}

async function roomsOf({ state, vm, hosts }: Wanted): Promise<HostTotals[]> {
  const elsewhere = remoteDrivers.flatMap(({ name: driver }) =>
    [...hosts.values()].map(({ name, labels, capacity }) => ({
      ...{ labels, capacity, driver },
      key: hostKey({ driver, host: name }),
    })),
  );
  const fleet = createLocalFleet({
    stateDirectory: state,
    settings: vm,
    clock: systemClock,
    log: silentLog,
  });
  try {
    return [...(await capacitiesOf(fleet)), ...elsewhere];
  } finally {
    await fleet.close();
  }
}
