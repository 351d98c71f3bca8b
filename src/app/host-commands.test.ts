import { afterEach, beforeEach, expect, test } from "vitest";
import { aMachine } from "../../test/builders/machine.ts";
import { aStore, type TestStore } from "../../test/builders/store.ts";
import { createManualClock } from "../base/manual-clock.ts";
import type { HostPorts } from "../server/routes/ports.ts";
import { createFakeDriver } from "../vm/fake/driver.ts";
import { createFakeHost } from "../vm/fake/host.ts";
import { createFleet } from "../vm/fleet.ts";
import { createHostCommands } from "./host-commands.ts";

let kept: TestStore;
let desk: Omit<HostPorts, "tryHost">;
let forgotten: string[];
let rooms: number;
let leaving: Set<string>;

beforeEach(async () => {
  kept = await aStore();
  forgotten = [];
  rooms = 0;
  leaving = new Set();
  const fake = createFakeDriver({ host: createFakeHost(createManualClock()) });
  const fleet = createFleet([fake, { ...fake, name: "flintlock", host: "metal-1" }]);
  desk = createHostCommands({
    fleet,
    store: {
      drainHost: kept.store.drainHost,
      resumeHost: kept.store.resumeHost,
      drainedHosts: kept.store.drainedHosts,
      machines: async () => [
        aMachine({ id: "fr-aaaaaaaa", driver: "flintlock", host: "metal-9", state: "busy" }),
        aMachine({ id: "fr-bbbbbbbb" }),
        aMachine({ id: "fr-cccccccc", driver: "flintlock", host: "metal-1", state: "stopping" }),
      ],
    },
    scheduler: { wake: () => {}, forgetMachine: async (id) => void forgotten.push(id) },
    isLeaving: (key) => leaving.has(key),
    onCapacity: () => rooms++,
  });
});

afterEach(() => kept[Symbol.asyncDispose]());

test("a host is drained and resumed by its name, this computer with all its drivers", async () => {
  await desk.drain("metal-1");
  await desk.drain("local");
  expect(await kept.store.drainedHosts()).toEqual(["fake", "flintlock/metal-1"]);

  await desk.resume("metal-1");
  expect(await kept.store.drainedHosts()).toEqual(["fake"]);
  expect(rooms).toBe(1);
  await expect(desk.drain("metal-2")).rejects.toMatchObject({
    code: "not_found",
    hint: expect.stringContaining("metal-1"),
  });
});

test("only a host that is not configured is forgotten, with its machines", async () => {
  await kept.store.drainHost("flintlock/metal-9");

  await expect(desk.forget("metal-1")).rejects.toMatchObject({ code: "conflict" });
  expect(await desk.forget("metal-9")).toEqual(["metal-9 is forgotten, with 1 machines that were there"]);
  expect(forgotten).toEqual(["fr-aaaaaaaa"]);
  expect(await kept.store.drainedHosts()).toEqual([]);
});

test("a host that died is forgotten once it is out of the configuration, though its machines cannot be removed", async () => {
  leaving.add("flintlock/metal-1");

  expect(await desk.forget("metal-1")).toEqual(["metal-1 is forgotten, with 1 machines that were there"]);
  expect(forgotten).toEqual(["fr-cccccccc"]);
});
