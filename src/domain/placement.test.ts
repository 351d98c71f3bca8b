import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { aHostCapacity } from "../../test/builders/host-capacity.ts";
import {
  createPlacement,
  type HostCapacity,
  hostKey,
  type PlacementPolicy,
  type Wanted,
} from "./placement.ts";

const size = { cpus: 2, memoryMib: 2_048, diskMib: 1_024 };
const capacity = { cpus: 8, memoryMib: 8_192, machines: 8 };

function aHost(name: string, overrides: Partial<HostCapacity> = {}): HostCapacity {
  return aHostCapacity({ key: `flintlock/${name}`, driver: "flintlock", capacity, ...overrides });
}

function aWish(overrides: Partial<Wanted> = {}): Wanted {
  return { driver: "flintlock", image: "base", size, hostLabels: {}, ...overrides };
}

describe("the key of a host", () => {
  test("is the driver's name on this computer, and names both elsewhere", () => {
    expect(hostKey({ driver: "qemu", host: "local" })).toBe("qemu");
    expect(hostKey({ driver: "flintlock", host: "metal-1" })).toBe("flintlock/metal-1");
  });
});

describe("placing", () => {
  test("spreads over the emptiest hosts, or packs the fullest", () => {
    const rooms = [aHost("a"), aHost("b")];
    const placed = (policy: PlacementPolicy) => {
      const placement = createPlacement(rooms, policy);
      placement.occupy("flintlock/b", size);
      return [1, 2, 3].map(() => placement.place(aWish()));
    };

    expect(placed("spread")).toEqual(["flintlock/a", "flintlock/a", "flintlock/b"]);
    expect(placed("pack")).toEqual(["flintlock/b", "flintlock/b", "flintlock/b"]);
  });

  test("goes where the labels are, and to no host of another driver", () => {
    const rooms = [
      aHostCapacity(),
      aHost("a", { labels: { zone: "a" } }),
      aHost("b", { labels: { zone: "b", gpu: "1" } }),
    ];
    const placement = createPlacement(rooms, "spread");

    expect(placement.place(aWish({ hostLabels: { zone: "b" } }))).toBe("flintlock/b");
    expect(placement.place(aWish({ driver: "fake" }))).toBe("fake");
    expect(placement.place(aWish({ hostLabels: { zone: "c" } }))).toBeUndefined();
    expect(placement.blocker(aWish({ hostLabels: { zone: "c" } }))).toBe(
      "no room for 2 CPUs, 2 GiB: a: it has not the label zone: c; b: it has not the label zone: c",
    );
  });

  test("prefers a host that has the image, until it is a quarter fuller", () => {
    const placement = createPlacement([aHost("a"), aHost("b", { images: new Set(["base"]) })], "spread");

    expect([1, 2, 3].map(() => placement.place(aWish()))).toEqual([
      "flintlock/b",
      "flintlock/a",
      "flintlock/b",
    ]);
  });

  test("avoids a host where the last machine was lost, unless it is the only one", () => {
    const avoidedHosts = new Set(["flintlock/a"]);
    const both = createPlacement([aHost("a"), aHost("b")], "spread");
    both.occupy("flintlock/b", size);
    const one = createPlacement([aHost("a")], "spread");

    expect(both.place(aWish({ avoidedHosts }))).toBe("flintlock/b");
    expect(one.place(aWish({ avoidedHosts }))).toBe("flintlock/a");
  });

  test("leaves closed hosts and unusable images alone, and says why nothing fits", () => {
    const rooms = [
      aHost("a", { closed: "it is drained" }),
      aHost("b", { unusable: new Map([["base", "the image is not there"]]) }),
      aHost("c", { capacity: { cpus: 1, memoryMib: 1_024, machines: 1 } }),
      aHost("d", { closed: "it does not answer" }),
    ];
    const placement = createPlacement(rooms, "spread");

    expect(placement.place(aWish())).toBeUndefined();
    expect(placement.blocker(aWish())).toBe(
      "no room for 2 CPUs, 2 GiB: a: it is drained; b: the image is not there; c: 0 of 1 CPUs, 0 of 1024 MiB and 0 of 1 machines are taken; and 1 more hosts",
    );
    expect(placement.impossible(aWish())).toBeUndefined();
    expect(placement.impossible(aWish({ size: { ...size, cpus: 64 } }))).toContain("no room for 64 CPUs");
    expect(createPlacement([], "spread").blocker(aWish())).toBe(
      "no room for 2 CPUs, 2 GiB: the flintlock driver has no host",
    );
  });

  test("keeps room for what is owed", () => {
    const placement = createPlacement([aHost("a")], "spread");
    placement.occupy("flintlock/a", { ...size, cpus: 1 });
    const whole = aWish({ size: { ...size, cpus: 8 } });

    expect(placement.place(whole)).toBeUndefined();
    placement.reserveFuture(whole);

    expect(placement.place(aWish())).toBeUndefined();
  });

  test("tries things on a copy", () => {
    const placement = createPlacement([aHost("a", { capacity: { ...capacity, machines: 1 } })], "pack");

    expect(placement.clone().place(aWish())).toBe("flintlock/a");
    expect(placement.blocker(aWish())).toBeUndefined();
    expect(placement.place(aWish())).toBe("flintlock/a");
    placement.vacate("flintlock/a", size);
    expect(placement.blocker(aWish())).toBeUndefined();
  });
});

const anySize = fc.record({
  cpus: fc.integer({ min: 1, max: 16 }),
  memoryMib: fc.integer({ min: 128, max: 16_384 }),
  diskMib: fc.integer({ min: 16, max: 40_960 }),
});
const anyHost = fc.record({
  capacity: fc.record({
    cpus: fc.integer({ min: 1, max: 64 }),
    memoryMib: fc.integer({ min: 1_024, max: 65_536 }),
    machines: fc.integer({ min: 1, max: 20 }),
    diskMib: fc.option(fc.integer({ min: 16, max: 204_800 }), { nil: undefined }),
  }),
  zone: fc.constantFrom("a", "b"),
  closed: fc.boolean(),
  hasImage: fc.boolean(),
});
const anyStep = fc.oneof(
  fc.record({
    kind: fc.constant("place" as const),
    size: anySize,
    zone: fc.constantFrom("a", "b", undefined),
  }),
  fc.record({ kind: fc.constant("end" as const), which: fc.nat() }),
);

test("no host is ever over its capacity in any history, and none is used that may not be", () => {
  fc.assert(
    fc.property(
      fc.array(anyHost, { minLength: 1, maxLength: 6 }),
      fc.array(anyStep, { maxLength: 60 }),
      fc.constantFrom<PlacementPolicy>("spread", "pack"),
      (hosts, steps, policy) => {
        const rooms = hosts.map((host, index) =>
          aHost(`m${index}`, {
            capacity: host.capacity,
            labels: { zone: host.zone },
            closed: host.closed ? "it is drained" : undefined,
            images: new Set(host.hasImage ? ["base"] : []),
          }),
        );
        const placement = createPlacement(rooms, policy);
        const running: { host: string; size: typeof size }[] = [];
        for (const step of steps) {
          if (step.kind === "end") {
            const [ended] = running.splice(step.which % Math.max(1, running.length), 1);
            if (ended) placement.vacate(ended.host, ended.size);
            continue;
          }
          const wanted = aWish({ size: step.size, hostLabels: step.zone ? { zone: step.zone } : {} });
          const hadRoom = placement.blocker(wanted) === undefined;
          const host = placement.place(wanted);
          expect(host !== undefined).toBe(hadRoom);
          if (host === undefined) continue;
          running.push({ host, size: step.size });
          const room = rooms.find(({ key }) => key === host);
          expect(room?.closed).toBeUndefined();
          if (step.zone) expect(room?.labels["zone"]).toBe(step.zone);
        }
        for (const { key, capacity: most } of rooms) {
          const there = running.filter(({ host }) => host === key);
          expect(there.length).toBeLessThanOrEqual(most.machines);
          expect(there.reduce((sum, each) => sum + each.size.cpus, 0)).toBeLessThanOrEqual(most.cpus);
          expect(there.reduce((sum, each) => sum + each.size.memoryMib, 0)).toBeLessThanOrEqual(
            most.memoryMib,
          );
          expect(there.reduce((sum, each) => sum + each.size.diskMib, 0)).toBeLessThanOrEqual(
            most.diskMib ?? Number.POSITIVE_INFINITY,
          );
        }
      },
    ),
    { numRuns: 10_000 },
  );
}, 60_000);
