import { expect, test } from "vitest";
import { anImage } from "../../test/builders/image.ts";
import { aClaim } from "../../test/builders/job.ts";
import { aPool } from "../../test/builders/pool.ts";
import { aStore } from "../../test/builders/store.ts";
import { createManualClock } from "../base/manual-clock.ts";
import { hostKey } from "../domain/placement.ts";
import { createFakeDriver } from "../vm/fake/driver.ts";
import { createFakeHost } from "../vm/fake/host.ts";
import { createFleet } from "../vm/fleet.ts";
import { createJobActions } from "./actions.ts";

test("a host that is removed while a machine's row is written leaves neither a machine nor a job behind", async () => {
  const clock = createManualClock();
  await using testStore = await aStore({ clock });
  const { store } = testStore;
  const driver = createFakeDriver({ host: createFakeHost(clock) });
  const fleet = createFleet([driver]);
  const key = hostKey({ driver: driver.name, host: driver.host });
  const jobs = createJobActions({
    ...{ store, fleet, clock, random: () => 0.5, attempts: 3, avoidedHosts: new Map() },
    images: { resolve: async () => anImage },
    pools: () => new Map([["small", aPool()]]),
    newMachineId: () => "fr-aaaaaaaa",
  });
  await store.claim(aClaim({ jobId: 4711 }));
  store.onEvent(({ kind }) => {
    if (kind === "job:starting") fleet.remove(key);
  });

  expect(await jobs.startMachine(4711, key)).toBeUndefined();
  expect(await store.job(4711)).toMatchObject({ state: "claimed", machineId: null });
  expect(await store.machine("fr-aaaaaaaa")).toMatchObject({ state: "gone" });
  await driver.close();
});
