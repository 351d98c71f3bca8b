import { pino } from "pino";
import { expect, test, vi } from "vitest";
import { aPool, usualContainers } from "../../test/builders/pool.ts";
import type { Clock } from "../base/clock.ts";
import { FireRunnerError } from "../base/errors.ts";
import { createManualClock } from "../base/manual-clock.ts";
import type { Pool } from "../domain/pool.ts";
import type { Probe } from "../vm/driver.ts";
import { createFakeDriver } from "../vm/fake/driver.ts";
import { createFakeHost } from "../vm/fake/host.ts";
import { createFleet } from "../vm/fleet.ts";
import { createHealth } from "./health.ts";

const signal = new AbortController().signal;

function createSubject(pools: Pool[], fleetOn = oneHost, noRoom?: FireRunnerError) {
  const clock = createManualClock();
  const resolved: string[] = [];
  const current = new Map(pools.map((pool) => [pool.name, pool]));
  const health = createHealth({
    fleet: fleetOn(clock),
    images: {
      async resolve(name) {
        resolved.push(name);
        if (name === "missing") throw new Error("there is no image “missing”");
        const files = { kernel: "", initramfs: "", layers: [] };
        const inContainers = name === "containers" ? { containerRunnerInfo: { name } } : {};
        return {
          digest: "sha256:0",
          architecture: "amd64",
          ...{ ...files, runnerInfo: { name }, ...inContainers },
        };
      },
    },
    pools: () => current,
    bases: () =>
      new Map([["webhook", { driver: "fake", image: "base", hostLabels: {}, containers: usualContainers }]]),
    clock,
    log: pino({ level: "silent" }),
    refusals: { closing: () => undefined },
    disk: { freeBytes: async () => 10, minFreeBytes: 1, roomForImages: async () => noRoom },
  });
  return { health, resolved, current, clock };
}

function oneHost(clock: Clock) {
  return createFleet([createFakeDriver({ host: createFakeHost(clock), directory: "/nowhere" })]);
}

test("pools that share driver and image are looked at once", async () => {
  const { health, resolved } = createSubject([aPool({ name: "a" }), aPool({ name: "b" })]);

  await health.refresh(signal);

  expect(resolved).toEqual(["base"]);
  expect(health.all().map(({ pool, ok }) => [pool, ok])).toEqual([
    ["a", true],
    ["b", true],
    ["webhook", true],
  ]);
});

test("without room for images of jobs, pools that run such jobs claim none, and others go on", async () => {
  const pools = [
    aPool({ name: "a", image: "containers" }),
    aPool({ name: "b" }),
    aPool({ name: "c", image: "containers", containers: { ...usualContainers, ignore: true } }),
  ];
  const full = new FireRunnerError("container_no_space", "the disk is full", { hint: "make room" });
  const { health } = createSubject(pools, oneHost, full);

  await health.refresh(signal);

  expect(health.of("a")).toMatchObject({
    ok: false,
    problems: [{ problem: "the disk is full", hint: "make room" }],
  });
  expect([health.of("b").ok, health.of("c").ok]).toEqual([true, true]);
});

test("machines that pull their images need no room for them here", async () => {
  const pools = [aPool({ name: "a", image: "containers", driver: "flintlock" })];
  const full = new FireRunnerError("container_no_space", "the disk is full");
  const remote = (clock: Clock) =>
    createFleet([
      { ...createFakeDriver({ host: createFakeHost(clock), directory: "/nowhere" }), name: "flintlock" },
    ]);
  const { health } = createSubject(pools, remote, full);

  await health.refresh(signal);

  expect(health.of("a")).toMatchObject({ ok: true, problems: [] });
});

test("a pool that comes later is ready at once when its base is", async () => {
  const { health, current } = createSubject([]);
  await health.refresh(signal);

  current.set("tags:x", aPool({ name: "tags:x", origin: { kind: "tags", key: "r-x" } }));
  current.set("tags:y", aPool({ name: "tags:y", origin: { kind: "tags", key: "r-y" }, image: "missing" }));

  expect(health.of("tags:x")).toMatchObject({ ok: true, runnerInfo: { name: "base" } });
  expect(health.of("tags:y")).toMatchObject({
    ok: false,
    problems: [{ problem: "it has not been looked at yet" }],
  });
  await health.refresh(signal);
  expect(health.of("tags:y").problems[0]?.problem).toContain("there is no image");
  expect(health.of("tags:gone").problems[0]?.problem).toBe("it is not configured");
});

test("a host that has become well is tried at once, and again when it was being tried as it was", async () => {
  const answers: PromiseWithResolvers<Probe>[] = [];
  const { health } = createSubject([aPool({ name: "a" })], (its) => {
    const probe = () => {
      answers.push(Promise.withResolvers<Probe>());
      return answers.at(-1)?.promise ?? Promise.reject();
    };
    return createFleet([{ ...createFakeDriver({ host: createFakeHost(its) }), probe }]);
  });
  const looked = health.refresh(signal);
  await vi.waitFor(() => expect(answers).toHaveLength(1));
  await health.refreshHost("fake", signal);
  answers[0]?.resolve({ usable: false, problem: "it is away", hint: "wait" });
  await vi.waitFor(() => expect(answers).toHaveLength(2));
  expect(health.of("a").ok).toBe(false);
  answers[1]?.resolve({ usable: true, accelerator: "kvm", version: "1" });
  await looked;

  expect(health.of("a").ok).toBe(true);
});

test("jobs are claimed for the hosts that answer while another one hangs, and those go on being looked at", async () => {
  let looks = 0;
  const { health, clock } = createSubject([aPool({ name: "a" })], (its) => {
    const driver = createFakeDriver({ host: createFakeHost(its) });
    const well = async () => ({ usable: true, accelerator: "kvm", version: String(++looks) }) as const;
    return createFleet([
      { ...driver, host: "hung", probe: () => new Promise(() => {}) },
      { ...driver, host: "well", probe: well },
    ]);
  });
  const first = health.refresh(signal);
  await clock.advance(0);

  expect(health.of("a").ok).toBe(true);
  expect(health.unusable("fake/hung", "unseen").get("base")).toBe("it has not been looked at yet");
  await clock.advance(5_000);
  await first;
  await health.refresh(signal);
  expect(looks).toBe(2);
});
