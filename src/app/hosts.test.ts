import { expect, test } from "vitest";
import { aMachine } from "../../test/builders/machine.ts";
import { silentLog } from "../base/log.ts";
import { createManualClock } from "../base/manual-clock.ts";
import type { LifecycleEvent } from "../domain/events.ts";
import type { Machine } from "../store/store.ts";
import { createFakeDriver } from "../vm/fake/driver.ts";
import { createFakeHost } from "../vm/fake/host.ts";
import { createFleet } from "../vm/fleet.ts";
import { createHostRegistry } from "./hosts.ts";

function aKeeper(machines: Machine[] = []) {
  const fleet = createFleet([]);
  const listeners: ((event: LifecycleEvent) => void)[] = [];
  const closed: string[] = [];
  const made: string[] = [];
  const registry = createHostRegistry<{ name: string; cpus: number }>({
    fleet,
    store: {
      machines: async () => machines,
      onEvent(listener) {
        listeners.push(listener);
        return () => {};
      },
    },
    make({ name, cpus }) {
      const driver = createFakeDriver({ host: createFakeHost(createManualClock()) });
      made.push(`${name} ${cpus}`);
      return { ...driver, host: name, close: async () => void closed.push(`${name} ${cpus}`) };
    },
    isSame: (a, b) => a.cpus === b.cpus,
    log: silentLog,
  });
  const apply = (hosts: Record<string, number>) =>
    registry.apply(new Map(Object.entries(hosts).map(([name, cpus]) => [name, { name, cpus }])));
  const lastMachineGoes = () => {
    machines.splice(0);
    for (const listener of listeners) listener({ kind: "machine:gone" } as LifecycleEvent);
  };
  const keys = () => [...fleet.hosts().keys()].toSorted();
  return { fleet, registry, apply, lastMachineGoes, closed, made, keys };
}

test("hosts come, change and go, and those that stay are not disturbed", async () => {
  const { apply, closed, made, keys } = aKeeper();

  await apply({ a: 1, b: 1 });
  await apply({ a: 1, b: 2, c: 1 });
  await apply({ b: 2, c: 1 });

  expect(keys()).toEqual(["fake/b", "fake/c"]);
  expect(made).toEqual(["a 1", "b 1", "b 2", "c 1"]);
  expect(closed).toEqual(["b 1", "a 1"]);
});

test("a host that is removed stays for its machines, closed to new ones", async () => {
  const { fleet, apply, lastMachineGoes, closed, keys } = aKeeper([aMachine({ host: "a" })]);
  await apply({ a: 1, b: 1 });

  await apply({ b: 1 });
  expect(keys()).toEqual(["fake/a", "fake/b"]);
  expect(fleet.hosts().get("fake/a")?.trouble()?.problem).toContain("removed from the configuration");
  expect(closed).toEqual([]);

  lastMachineGoes();
  await expect.poll(keys).toEqual(["fake/b"]);
  expect(closed).toEqual(["a 1"]);
});

test("a host that comes back while it is leaving is a host like others", async () => {
  const { fleet, apply, lastMachineGoes, keys } = aKeeper([aMachine({ host: "a" })]);
  await apply({ a: 1 });
  await apply({});
  await apply({ a: 1 });

  expect(fleet.hosts().get("fake/a")?.trouble()).toBeUndefined();
  lastMachineGoes();
  await Promise.resolve();
  expect(keys()).toEqual(["fake/a"]);
});
