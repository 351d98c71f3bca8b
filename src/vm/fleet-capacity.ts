import type { HostCapacity } from "../domain/placement.ts";
import type { Fleet } from "./driver.ts";

export type HostTotals = Pick<HostCapacity, "key" | "driver" | "labels" | "capacity">;

/** What every host has to give, whatever is taken of it. Rejects when one cannot tell. */
export async function capacitiesOf(fleet: Pick<Fleet, "hosts">): Promise<HostTotals[]> {
  const asked = [...fleet.hosts()].map(async ([key, driver]) => ({
    ...{ key, driver: driver.name, labels: driver.labels },
    capacity: await driver.capacity(),
  }));
  return await Promise.all(asked);
}
