import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { aHostCapacity } from "../../test/builders/host-capacity.ts";
import { aJob } from "../../test/builders/job.ts";
import { aMachine } from "../../test/builders/machine.ts";
import { aPool } from "../../test/builders/pool.ts";
import { aSize } from "../../test/builders/size.ts";
import type { LifecycleEvent } from "../domain/events.ts";
import { slotHoldingJobStates } from "../domain/states.ts";
import type { Job, Machine } from "../store/store.ts";
import { createSlots, occupants, type Reservation } from "./slots.ts";

const oneCpu = aSize({ cpus: 1, memoryMib: 1_024 });
const small = aPool({ name: "small", size: oneCpu, concurrency: 10 });
const large = aPool({ name: "large", size: aSize({ cpus: 4, memoryMib: 4_096 }) });

/** Rows that a test changes by hand, with the event that a store would send. */
function createRows(initial: { jobs?: Job[]; machines?: Machine[] } = {}) {
  let jobs = initial.jobs ?? [];
  let machines = initial.machines ?? [];
  const listeners: ((event: LifecycleEvent) => void)[] = [];
  let whileReading = async () => {};
  return {
    jobs: async () => {
      const read = jobs;
      await whileReading();
      return read;
    },
    machines: async () => machines,
    onEvent(listener: (event: LifecycleEvent) => void) {
      listeners.push(listener);
      return () => {};
    },
    set(next: { jobs?: Job[]; machines?: Machine[] }) {
      jobs = next.jobs ?? jobs;
      machines = next.machines ?? machines;
      for (const listener of listeners) listener({ kind: "job:claimed" } as LifecycleEvent);
    },
    all: () => ({ jobs, machines }),
    onReading(action: () => Promise<void>) {
      whileReading = action;
    },
  };
}

function slotsOver(rows: ReturnType<typeof createRows>, cpus: number, pools = [small, large]) {
  return createSlots({
    store: rows,
    pools: () => new Map(pools.map((pool) => [pool.name, pool])),
    hosts: async () => [aHostCapacity({ capacity: { cpus, memoryMib: cpus * 1_024, machines: cpus } })],
    placement: "spread",
  });
}

describe("occupants", () => {
  test("a job and the machine that serves it count once", () => {
    const job = aJob({ id: 1, state: "starting", machineId: "fr-aaaaaaaa" });
    const machine = aMachine({ id: "fr-aaaaaaaa", jobId: 1, state: "booting" });

    expect(occupants([job], [machine])).toHaveLength(1);
  });

  test("a claimed job counts beside the machine of its failed attempt that is still being destroyed", () => {
    const job = aJob({ id: 1, state: "claimed" });
    const machine = aMachine({ jobId: 1, state: "stopping" });

    expect(occupants([job], [machine])).toHaveLength(2);
  });

  test("a running job whose machine is being destroyed gets no other and counts once", () => {
    const job = aJob({ id: 1, state: "running" });
    const machine = aMachine({ jobId: 1, state: "stopping" });

    expect(occupants([job], [machine])).toHaveLength(1);
  });

  test("a failing job holds no slot, its machine does until it is gone", () => {
    const job = aJob({ id: 1, state: "failing" });
    const machine = aMachine({ jobId: 1, state: "stopping" });

    expect(occupants([job], [machine])).toEqual([
      { host: "fake", pool: "small", jobId: null, size: machine.size, isBeingMade: false },
    ]);
  });
});

describe("slots", () => {
  test("are given until the capacity is reserved, and again when a poll brought nothing", async () => {
    const slots = slotsOver(createRows(), 2);
    await slots.refresh();

    const first = slots.reserve(small);
    const second = slots.reserve(small);

    expect(second).toBeDefined();
    expect(slots.reserve(small)).toBeUndefined();
    expect(slots.blocker(small)).toContain("2 of 2 CPUs");
    first?.release();
    expect(slots.reserve(small)).toBeDefined();
  });

  test("a machine that no host could ever hold is told, but not for want of disk, which comes and goes", async () => {
    const slots = slotsOver(createRows(), 2);
    const wanted = { ...small, hostLabels: small.hostLabels };
    expect(slots.neverHeld({ ...wanted, size: { ...small.size, cpus: 3 } })).toBeUndefined();
    await slots.refresh();

    expect(slots.neverHeld(wanted)).toBeUndefined();
    expect(slots.neverHeld({ ...wanted, size: { ...small.size, cpus: 3 } })).toContain("3 CPUs");
    expect(slots.neverHeld({ ...wanted, size: { ...small.size, diskMib: 1e9 } })).toBeUndefined();
  });

  test("stay reserved for a job whose row an ongoing reading has missed", async () => {
    const rows = createRows();
    const slots = slotsOver(rows, 1);
    await slots.refresh();
    const reservation = slots.reserve(small);
    rows.set({});
    rows.onReading(async () => {
      rows.onReading(async () => {});
      rows.set({ jobs: [aJob({ id: 1, size: oneCpu })] });
      reservation?.handTo(1);
    });

    await slots.refresh();

    expect(slots.reserve(small)).toBeUndefined();
    await slots.refresh();
    expect(slots.reserve(small)).toBeUndefined();
    rows.set({ jobs: [] });
    await slots.refresh();
    expect(slots.reserve(small)).toBeDefined();
  });

  test("end at the pool's limit of jobs", async () => {
    const limited = aPool({ name: "small", size: oneCpu, concurrency: 1 });
    const slots = slotsOver(createRows({ jobs: [aJob({ id: 1, size: oneCpu })] }), 8, [limited]);
    await slots.refresh();

    expect(slots.blocker(limited)).toContain("limit of 1 jobs");
  });

  test("say that a machine can never fit", async () => {
    const slots = slotsOver(createRows(), 2);
    await slots.refresh();

    expect(slots.impossible(large)).toContain("never fits");
    expect(slots.impossible(small)).toBeUndefined();
  });

  test("cover each pool only while one machine of every pool fits", async () => {
    const rows = createRows();
    const slots = slotsOver(rows, 5);
    await slots.refresh();
    expect(slots.fitsOneOfEach([small, large])).toBe(true);

    rows.set({ jobs: [aJob({ id: 1, size: oneCpu })] });
    await slots.refresh();

    expect(slots.fitsOneOfEach([small, large])).toBe(false);
    expect(slots.fitsOneOfEach([large])).toBe(true);
  });

  test("read again after a failed reading", async () => {
    const rows = createRows();
    const slots = slotsOver(rows, 1);
    rows.onReading(async () => {
      rows.onReading(async () => {});
      throw new Error("no disk");
    });

    await expect(slots.refresh()).rejects.toThrow("no disk");
    await slots.refresh();

    expect(slots.reserve(small)).toBeDefined();
  });
});

test("machines, jobs without one and open polls never exceed the capacity, in any history", async () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant("poll" as const), pool: fc.constantFrom(small, large) }),
    fc.record({ kind: fc.constant("miss" as const), index: fc.nat(9) }),
    fc.record({ kind: fc.constant("hit" as const), index: fc.nat(9) }),
    fc.record({ kind: fc.constant("start" as const), index: fc.nat(9) }),
    fc.record({ kind: fc.constant("finish" as const), index: fc.nat(9) }),
    fc.record({ kind: fc.constant("gone" as const), index: fc.nat(9) }),
    fc.record({ kind: fc.constant("read" as const) }),
    fc.record({ kind: fc.constant("restart" as const) }),
  );
  const cpus = 9;

  async function play(history: readonly (typeof step extends fc.Arbitrary<infer Step> ? Step : never)[]) {
    const rows = createRows();
    let slots = slotsOver(rows, cpus);
    await slots.refresh();
    let open: { reservation: Reservation; pool: typeof small }[] = [];
    let nextId = 1;
    const pick = <T>(list: readonly T[], index: number): T | undefined => list[index % (list.length || 1)];

    for (const action of history) {
      const { jobs, machines } = rows.all();
      if (action.kind === "read") await slots.refresh();
      if (action.kind === "poll") {
        const reservation = slots.reserve(action.pool);
        if (reservation) open.push({ reservation, pool: action.pool });
      }
      if (action.kind === "miss" || action.kind === "hit") {
        const poll = pick(open, action.index);
        if (!poll) continue;
        open = open.filter((other) => other !== poll);
        if (action.kind === "miss") poll.reservation.release();
        else {
          const { name: pool, size } = poll.pool;
          rows.set({ jobs: [...jobs, aJob({ id: nextId, state: "claimed", pool, size })] });
          poll.reservation.handTo(nextId++);
        }
      }
      if (action.kind === "start") {
        const job = pick(
          jobs.filter(({ state }) => state === "claimed"),
          action.index,
        );
        if (!job) continue;
        const machine = aMachine({
          id: `fr-${job.id}`,
          jobId: job.id,
          state: "booting",
          size: job.size,
          pool: job.pool,
        });
        rows.set({
          jobs: jobs.map((other) =>
            other === job ? { ...job, state: "starting", machineId: machine.id } : other,
          ),
          machines: [...machines, machine],
        });
      }
      if (action.kind === "finish") {
        const job = pick(jobs, action.index);
        rows.set({
          jobs: jobs.filter((other) => other !== job),
          machines: machines.map((each) => (each.jobId === job?.id ? { ...each, state: "stopping" } : each)),
        });
      }
      if (action.kind === "gone") {
        const machine = pick(
          machines.filter(({ state }) => state === "stopping"),
          action.index,
        );
        rows.set({ machines: machines.filter((other) => other !== machine) });
      }
      if (action.kind === "restart" && open.length === 0) {
        slots = slotsOver(rows, cpus);
        await slots.refresh();
      }
      expect(usedCpus(rows.all(), open)).toBeLessThanOrEqual(cpus);
    }
  }

  function usedCpus(
    { jobs, machines }: { jobs: Job[]; machines: Machine[] },
    open: { pool: typeof small }[],
  ) {
    const served = new Set(machines.map(({ jobId }) => jobId));
    const waiting = jobs.filter(({ id, state }) => slotHoldingJobStates.includes(state) && !served.has(id));
    const sizes = [...machines, ...waiting, ...open.map(({ pool }) => pool)].map(({ size }) => size);
    return sizes.reduce((sum, size) => sum + size.cpus, 0);
  }

  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 60 }), play), { numRuns: 150 });
});
