import type { HostRoom } from "../domain/placement.ts";
import type { Fleet } from "./driver.ts";

export type HostCapacity = Pick<HostRoom, "key" | "driver" | "labels" | "capacity">;

/** What every host has to give, whatever is taken of it. Rejects when one cannot tell. */
export async function capacitiesOf(fleet: Pick<Fleet, "hosts">): Promise<HostCapacity[]> {
  const asked = [...fleet.hosts()].map(async ([key, driver]) => ({
    ...{ key, driver: driver.name, labels: driver.labels },
    capacity: await driver.capacity(),
  }));
  return await Promise.all(asked);
}
