import { beforeEach, expect, test } from "vitest";
import { createManualClock } from "../base/manual-clock.ts";
import type { DriverMachine, VmDriver } from "../vm/driver.ts";
import { createFakeDriver } from "../vm/fake/driver.ts";
import { createFakeHost } from "../vm/fake/host.ts";
import { createFleet } from "../vm/fleet.ts";
import { createHostLists } from "./observe.ts";

const { signal } = new AbortController();
const machine: DriverMachine = { id: "fr-aaaaaaaa", status: { running: true, startedAt: 0 } };
let clock: ReturnType<typeof createManualClock>;
let late: string[];

beforeEach(() => {
  clock = createManualClock();
  late = [];
});

/** Hosts by name, with how each answers. */
function listsOf(hosts: Record<string, VmDriver["list"]>) {
  const drivers = Object.entries(hosts).map(([name, list]): VmDriver => {
    return { ...createFakeDriver({ host: createFakeHost(clock) }), host: name, list };
  });
  const fleet = createFleet(drivers);
  return { fleet, lists: createHostLists({ fleet, clock, onLateAnswer: (key) => late.push(key) }) };
}

test("a host that hangs is waited for once, for a second, and holds up no later round", async () => {
  const { lists } = listsOf({ well: async () => [machine], hung: () => new Promise(() => {}) });
  const first = lists.ask(new Set(), signal);
  await clock.advance(1_000);
  expect((await first).get("fake/well")?.listed).toEqual([machine]);

  // No time passes from here on: whoever waited would wait for ever.
  for (let round = 0; round < 100; round++) {
    const answers = await lists.ask(new Set(), signal);
    expect(answers.get("fake/well")?.listed).toEqual([machine]);
    expect(answers.get("fake/hung")).toMatchObject({ listed: undefined });
    expect(answers.get("fake/hung")?.problem).toMatch(/has not answered|took longer/);
  }
});

test("a host whose every answer is late is heard all the same, with what was known when it was asked", async () => {
  const { lists } = listsOf({
    async slow(each) {
      await clock.sleep(3_000, each);
      return [machine];
    },
  });
  const first = lists.ask(new Set(["fr-before22"]), signal);
  await clock.advance(1_000);
  expect((await first).get("fake/slow")?.listed).toBeUndefined();
  await clock.advance(2_000);
  expect(late).toEqual(["fake/slow"]);

  const answer = (await lists.ask(new Set(["fr-before22", "fr-since222"]), signal)).get("fake/slow");
  expect(answer?.listed).toEqual([machine]);
  expect([...(answer?.settled ?? [])]).toEqual(["fr-before22"]);
});

test("a host that hung and answers again is asked as before", async () => {
  let hangs = true;
  const list = () => (hangs ? new Promise<never>(() => {}) : Promise.resolve([machine]));
  const { lists } = listsOf({ hung: list });
  const first = lists.ask(new Set(), signal);
  await clock.advance(1_000);
  await first;
  hangs = false;
  await clock.advance(20_000);
  expect((await lists.ask(new Set(), signal)).get("fake/hung")?.problem).toContain("took longer than");

  await lists.ask(new Set(), signal);
  await clock.advance(0);
  expect(late).toContain("fake/hung");
  expect((await lists.ask(new Set(), signal)).get("fake/hung")?.listed).toEqual([machine]);
  expect((await lists.ask(new Set(), signal)).get("fake/hung")?.listed).toEqual([machine]);
});

test("the answer of a host that was replaced meanwhile counts for nothing", async () => {
  const { fleet, lists } = listsOf({
    async a(each) {
      await clock.sleep(1_500, each);
      return [machine];
    },
  });
  const first = lists.ask(new Set(), signal);
  await clock.advance(1_000);
  await first;
  fleet.add({ ...createFakeDriver({ host: createFakeHost(clock) }), host: "a" });
  await clock.advance(500);

  expect((await lists.ask(new Set(), signal)).get("fake/a")?.listed).toEqual([]);
});
