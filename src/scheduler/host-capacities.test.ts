import { expect, test } from "vitest";
import { createManualClock } from "../base/manual-clock.ts";
import { createFakeDriver } from "../vm/fake/driver.ts";
import { createFakeHost } from "../vm/fake/host.ts";
import { createFleet } from "../vm/fleet.ts";
import { createHostCapacities } from "./host-capacities.ts";

function createSubject() {
  return createHostCapacities({
    fleet: createFleet([createFakeDriver({ host: createFakeHost(createManualClock()) })]),
    health: { unusable: () => new Map(), digests: () => new Map() },
    refusals: { on: () => [] },
    store: { drainedHosts: async () => [], machines: async () => [] },
  });
}

test("nothing new goes to a host that came back with old machines, until they are gone", async () => {
  const subject = createSubject();
  const closed = async () => (await subject.all()).map((host) => host.closed);

  subject.noteUnneeded("fake", []);
  subject.noteUnneeded("fake", ["fr-old22222", "fr-old33333"]);
  expect(await closed()).toEqual([undefined]);
  subject.noteUnneeded("fake", ["fr-old22222", "fr-old33333"]);
  expect(await closed()).toEqual(["it still runs 2 machines that nobody needs, until they are removed"]);
  subject.noteUnneeded("fake", ["fr-old33333"]);
  expect(await closed()).toEqual(["it still runs a machine that nobody needs, until they are removed"]);
  subject.noteUnneeded("fake", []);
  expect(await closed()).toEqual([undefined]);
});

test("a machine that ended while the host was looked at closes nothing", async () => {
  const subject = createSubject();

  subject.noteUnneeded("fake", []);
  subject.noteUnneeded("fake", ["fr-old22222"]);
  subject.noteUnneeded("fake", ["fr-old33333"]);

  expect((await subject.all())[0]?.closed).toBeUndefined();
});

test("what a host runs when the program starts counts at once", async () => {
  const subject = createSubject();

  subject.noteUnneeded("fake", ["fr-old22222"]);

  expect((await subject.all())[0]?.closed).toContain("a machine that nobody needs");
});
