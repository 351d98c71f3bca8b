import { afterEach, beforeEach, expect, test } from "vitest";
import { aClaim } from "../../test/builders/job.ts";
import { aNewMachine } from "../../test/builders/machine.ts";
import { aPool } from "../../test/builders/pool.ts";
import { aStore, type TestStore } from "../../test/builders/store.ts";
import { createManualClock } from "../base/manual-clock.ts";
import type { GuestEnd } from "../domain/events.ts";
import type { Store } from "../store/store.ts";
import type { VmDriver } from "../vm/driver.ts";
import { createFakeDriver } from "../vm/fake/driver.ts";
import { createFakeHost } from "../vm/fake/host.ts";
import { createFleet } from "../vm/fleet.ts";
import { SchedulerConfig } from "./config.ts";
import { createHostCapacities } from "./host-capacities.ts";
import { createHostLists, observe } from "./observe.ts";
import { type Action, plan } from "./plan.ts";

const M = "fr-aaaaaaaa";
const clock = createManualClock();
const policy = SchedulerConfig.parse({});
let testStore: TestStore;
let store: Store;
let driver: VmDriver;
let host: ReturnType<typeof createFakeHost>;

beforeEach(async () => {
  testStore = await aStore({ clock });
  store = testStore.store;
  host = createFakeHost(clock);
  driver = createFakeDriver({ host });
  await store.claim(aClaim());
});

afterEach(async () => {
  await testStore[Symbol.asyncDispose]();
});

type Step = "first machines" | "list" | "second machines" | "jobs";

/** What is planned when `meddle` happens right after that step of looking. */
async function plannedWhen(
  step: Step,
  meddle: () => Promise<unknown>,
  endOf: () => GuestEnd | undefined = () => undefined,
): Promise<Action[]> {
  let machineReads = 0;
  const then = async <Value>(done: Step, answer: Promise<Value>): Promise<Value> => {
    const value = await answer;
    if (done === step) await meddle();
    return value;
  };
  const watched = Object.assign(Object.create(store) as Store, {
    jobs: (filter: Parameters<Store["jobs"]>[0]) => then("jobs", store.jobs(filter)),
    machines: (filter: Parameters<Store["machines"]>[0]) =>
      then(++machineReads === 1 ? "first machines" : "second machines", store.machines(filter)),
  });
  const list: VmDriver["list"] = (signal) => then("list", driver.list(signal));
  const relay = { lastHeardAt: () => undefined, lastStatusAt: () => undefined, endOf };
  const snapshot = await observe(
    {
      ...{ store: watched, relay },
      ...hostsOf({ ...driver, list }),
      pools: () => new Map([["small", aPool()]]),
    },
    {
      listening: new Set([M]),
      askedAt: new Map(),
      recheckAt: new Map(),
      ...nothing,
      since: clock.now(),
      mode: "run",
    },
    new AbortController().signal,
  );
  return plan(snapshot, policy, clock.now());
}

const nothing = {
  starting: new Map<number, string>(),
  avoidedHosts: new Map<number, Set<string>>(),
  fetchedMs: new Map<number, number>(),
};

function hostsOf(only: VmDriver) {
  const fleet = createFleet([only]);
  const health = { unusable: () => new Map(), digests: () => new Map() };
  const lists = createHostLists({ fleet, clock, onLateAnswer: () => {} });
  return {
    lists,
    capacities: createHostCapacities({ fleet, health, refusals: { on: () => [] }, store }),
    placement: "spread",
  } as const;
}

async function startMachine(): Promise<void> {
  await store.startJob(4711, aNewMachine({ id: M }));
  host.start({ ...aNewMachine({ id: M }), image: await anImage() });
  await store.markBooting(M);
}

async function anImage() {
  return { digest: "sha256:0", architecture: "amd64", kernel: "/k", initramfs: "/i", layers: [] };
}

test.each(["first machines", "list", "second machines"] as const)(
  "a machine that starts right after the step “%s” is neither missing nor unknown, nor is its job lost",
  async (step) => {
    expect(await plannedWhen(step, startMachine)).toEqual([]);
  },
);

test("a job whose machine starts after all was read is planned as it was then, and not twice", async () => {
  const start = [{ kind: "startMachine", jobId: 4711, host: "fake" }];
  expect(await plannedWhen("jobs", startMachine)).toEqual(start);
  expect(await store.startJob(4711, aNewMachine({ id: "fr-bbbbbbbb" }))).toBe(false);
});

test("a machine that ended is seen to have ended, and a job that ended before it is over", async () => {
  await startMachine();
  await store.handOver(4711, M);

  const honest = await plannedWhen("list", async () => {
    await store.finishJob(4711, "success");
  });
  expect(honest).toEqual([{ kind: "stopMachine", machineId: M, reason: "its job has ended" }]);
});

test("a guest that said goodbye after its job's end is believed to have ended it", async () => {
  await startMachine();
  await store.handOver(4711, M);
  let end: GuestEnd | undefined;

  const honest = await plannedWhen(
    "jobs",
    async () => {
      await store.finishJob(4711, "success");
      end = "orderly";
    },
    () => end,
  );
  expect(honest).toEqual([]);
});

test("a driver that hangs is one that could not be asked", async () => {
  const hanging: VmDriver = { ...driver, list: () => new Promise(() => {}) };
  const relay = { lastHeardAt: () => undefined, lastStatusAt: () => undefined, endOf: () => undefined };
  const observing = observe(
    { store, relay, ...hostsOf(hanging), pools: () => new Map() },
    {
      listening: new Set(),
      askedAt: new Map(),
      recheckAt: new Map(),
      ...nothing,
      since: clock.now(),
      mode: "run",
    },
    new AbortController().signal,
  );
  await clock.advance(20_000);
  const observed = await observing;

  expect(observed.hosts.get("fake")?.listed).toBeUndefined();
  expect(observed.hostProblems.get("fake")).toContain("has not answered");
});
