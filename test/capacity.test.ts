/**
 * The claimer's slots and the scheduler's plan, together over the same rows: jobs are claimed only with a slot, machines start only
 * where the plan says. Whatever happens to the hosts, none is ever given more than it has.
 */
import fc from "fast-check";
import { expect, test } from "vitest";
import { createSlots, type Reservation, type Slots } from "../src/claiming/slots.ts";
import type { LifecycleEvent } from "../src/domain/events.ts";
import { type HostCapacity, hostKey, type PlacementPolicy } from "../src/domain/placement.ts";
import { occupied, type Size } from "../src/domain/size.ts";
import { SchedulerConfig } from "../src/scheduler/config.ts";
import { type Action, plan } from "../src/scheduler/plan.ts";
import type { HostView, Snapshot } from "../src/scheduler/snapshot.ts";
import type { Job, Machine } from "../src/store/store.ts";
import type { DriverMachine } from "../src/vm/driver.ts";
import { aHostCapacity } from "./builders/host-capacity.ts";
import { aJob, someTime } from "./builders/job.ts";
import { aMachine } from "./builders/machine.ts";
import { aPool } from "./builders/pool.ts";
import { aSize } from "./builders/size.ts";

const policy = SchedulerConfig.parse({});
const ROUND_MS = 1_000;
const DISK_MIB = 1_024;

const anyHost = fc.record({
  cpus: fc.integer({ min: 1, max: 8 }),
  machines: fc.integer({ min: 1, max: 4 }),
  /** How many disks of the small kind there is room for. */
  disks: fc.integer({ min: 1, max: 8 }),
  zone: fc.constantFrom("a", "b"),
});
const usual = ["poll", "poll", "poll", "answer", "answer", "round", "round", "end"] as const;
const unusual = ["lose", "silence", "drain", "grow", "restart", "stranger"] as const;
const anyStep = fc.record({
  kind: fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...usual) }, fc.constantFrom(...unusual)),
  which: fc.nat({ max: 1_000 }),
  /** Of what can go either way: a poll brings a job, an action succeeds. */
  luck: fc.array(
    fc.integer({ min: 0, max: 4 }).map((roll) => roll > 0),
    { minLength: 1, maxLength: 5 },
  ),
});
const anyHistory = [
  fc.array(anyHost, { minLength: 1, maxLength: 4 }),
  fc.array(anyStep, { minLength: 20, maxLength: 60, size: "max" }),
  fc.constantFrom<PlacementPolicy>("spread", "pack"),
] as const;
type Step = typeof anyStep extends fc.Arbitrary<infer Value> ? Value : never;
type Happening = Step["kind"];

const small = aPool({ name: "small", size: aSize({ cpus: 1, diskMib: DISK_MIB }) });
const large = aPool({ name: "large", size: aSize({ cpus: 3, memoryMib: 2_048, diskMib: 3 * DISK_MIB }) });
const zoned = aPool({
  name: "zoned",
  size: aSize({ cpus: 2, diskMib: DISK_MIB }),
  hostLabels: { zone: "a" },
});

interface Host {
  room: HostCapacity;
  isSilent: boolean;
  readonly there: Set<string>;
}

/** The rows, the hosts, and what a process knows. Ids grow, so that nothing comes twice. */
class History {
  readonly jobs = new Map<number, Job>();
  readonly machines = new Map<string, Machine>();
  readonly hosts: Host[];
  readonly pools;
  readonly placement: PlacementPolicy;
  readonly starting = new Map<number, string>();
  open: { readonly reservation: Reservation; readonly pool: string; readonly size: Size }[] = [];
  slots: Slots;
  now = someTime;
  private ids = 0;
  private readonly listeners = new Set<(event: LifecycleEvent) => void>();

  constructor(hosts: Host[], pools: readonly (typeof small)[], placement: PlacementPolicy) {
    this.hosts = hosts;
    this.pools = new Map(pools.map((pool) => [pool.name, pool]));
    this.placement = placement;
    this.slots = this.newSlots();
  }

  private newSlots(): Slots {
    return createSlots({
      store: {
        jobs: async () => [...this.jobs.values()].filter(({ state }) => state !== "finished"),
        machines: async () => [...this.machines.values()].filter(({ state }) => state !== "gone"),
        onEvent: (listener) => {
          this.listeners.add(listener);
          return () => this.listeners.delete(listener);
        },
      },
      pools: () => this.pools,
      hosts: async () => this.hosts.map(({ room }) => room),
      placement: this.placement,
    });
  }

  private changed(): void {
    for (const listener of this.listeners) listener({ kind: "job:claimed" } as LifecycleEvent);
  }

  setJob(id: number, changes: Partial<Job>): void {
    const job = this.jobs.get(id);
    if (job) this.jobs.set(id, { ...job, ...changes });
    this.changed();
  }

  setMachine(id: string, changes: Partial<Machine>): void {
    const machine = this.machines.get(id);
    if (machine) this.machines.set(id, { ...machine, ...changes });
    this.changed();
  }

  async poll(which: number): Promise<void> {
    await this.slots.refresh();
    const pool = pick([...this.pools.values()], which);
    const reservation = pool && this.slots.reserve(pool);
    if (pool && reservation) this.open.push({ reservation, pool: pool.name, size: pool.size });
  }

  answer(which: number, bringsJob: boolean): void {
    const poll = pick(this.open, which);
    if (!poll) return;
    this.open = this.open.filter((each) => each !== poll);
    if (!bringsJob) {
      poll.reservation.release();
      return;
    }
    const id = ++this.ids;
    this.jobs.set(id, aJob({ id, pool: poll.pool, size: poll.size, claimedAt: this.now }));
    poll.reservation.handTo(id);
    this.changed();
  }

  restart(): void {
    this.slots.close();
    this.starting.clear();
    this.open = [];
    this.slots = this.newSlots();
  }

  look(): Snapshot {
    const jobs = [...this.jobs.values()].filter(({ state }) => state !== "finished");
    const referred = new Set(jobs.map(({ machineId }) => machineId));
    const machines = [...this.machines.values()];
    const settled = machines.filter(({ state }) => state !== "creating" && state !== "gone");
    return {
      jobs,
      machines: machines.filter(({ id, state }) => state !== "gone" || referred.has(id)),
      hosts: new Map(this.hosts.map((host) => [host.room.key, viewOf(host)])),
      placement: this.placement,
      settled: new Set(settled.map(({ id }) => id)),
      pools: this.pools,
      starting: new Map(this.starting),
      avoidedHosts: new Map(),
      fetchedMs: new Map(),
      listening: new Set(this.machines.keys()),
      heardAt: new Map(),
      ends: new Map(),
      statusAt: new Map(),
      recheckAt: new Map(),
      since: someTime,
      mode: "run",
    };
  }

  /** What a round decides, of which only some is done before the next one: the rest is decided again. */
  round(luck: readonly boolean[]): void {
    const actions = plan(this.look(), policy, this.now);
    actions.forEach((action, index) => {
      if (action.kind === "startMachine") this.starting.set(action.jobId, action.host);
      if (luck[index % luck.length]) this.perform(action);
    });
    this.now += ROUND_MS;
  }

  private perform(action: Action): void {
    switch (action.kind) {
      case "startMachine":
        this.start(action.jobId, action.host);
        break;
      case "create":
        this.hostOf(action.machineId)?.there.add(action.machineId);
        this.setMachine(action.machineId, { state: "booting" });
        break;
      case "stopMachine":
        this.setMachine(action.machineId, { state: "stopping" });
        break;
      case "destroy":
      case "destroyUnknown":
        this.destroy(action.machineId, action.host);
        break;
      case "retryJob":
        this.setJob(action.jobId, { state: "claimed", machineId: null });
        break;
      case "failJob":
        this.setJob(action.jobId, { state: "failing", reportAt: this.now });
        break;
      case "report":
        this.setJob(action.jobId, { state: "finished" });
        break;
      default:
    }
  }

  private start(jobId: number, key: string): void {
    this.starting.delete(jobId);
    const job = this.jobs.get(jobId);
    if (job?.state !== "claimed") return;
    const id = `fr-${++this.ids}`;
    const [driver = "", host = ""] = key.split("/");
    this.machines.set(id, aMachine({ id, jobId, driver, host, size: job.size, pool: job.pool }));
    this.setJob(jobId, { state: "starting", machineId: id, attempt: job.attempt + 1 });
  }

  private destroy(id: string, key: string): void {
    const host = this.hosts.find(({ room }) => room.key === key);
    if (!host || host.isSilent) return;
    host.there.delete(id);
    if (this.machines.get(id)?.state === "stopping") this.setMachine(id, { state: "gone" });
  }

  hostOf(machineId: string): Host | undefined {
    const machine = this.machines.get(machineId);
    return machine && this.hosts.find(({ room }) => room.key === hostKey(machine));
  }

  /** Every host with more than it has, counting what is about to be started. */
  overfull(): string[] {
    const live = [...this.machines.values()].filter(({ state }) => state !== "gone");
    return this.hosts.flatMap(({ room: { key, capacity } }) => {
      const starting = [...this.starting].filter(([, host]) => host === key);
      const sizes = [
        ...live.filter((machine) => hostKey(machine) === key).map(({ size }) => size),
        ...starting.flatMap(([id]) =>
          this.jobs.get(id)?.state === "claimed" ? [this.jobs.get(id)?.size] : [],
        ),
      ].filter((size) => size !== undefined);
      const { cpus, memoryMib, machines, diskMib } = occupied(sizes);
      const isFull =
        cpus > capacity.cpus ||
        memoryMib > capacity.memoryMib ||
        machines > capacity.machines ||
        diskMib > (capacity.diskMib ?? Number.POSITIVE_INFINITY);
      return isFull
        ? [`${key}: ${machines} machines, ${cpus} CPUs, ${memoryMib} MiB, disks ${diskMib} MiB`]
        : [];
    });
  }
}

function viewOf({ room: capacity, isSilent, there }: Host): HostView {
  const running = { running: true, startedAt: someTime } as const;
  const listed = [...there].map((id): DriverMachine => ({ id, status: running }));
  return { capacity, listed: isSilent ? undefined : listed };
}

function pick<Item>(items: readonly Item[], which: number): Item | undefined {
  return items[which % Math.max(1, items.length)];
}

function happenToHost(history: History, kind: Happening, which: number): void {
  const host = pick(history.hosts, which);
  if (!host) return;
  const { room } = host;
  if (kind === "lose") host.there.clear();
  if (kind === "silence") host.isSilent = !host.isSilent;
  if (kind === "drain") host.room = { ...room, closed: room.closed ? undefined : "it is drained" };
  if (kind === "stranger") host.there.add(`fr-stranger${which}`);
  if (kind !== "grow") return;
  const { cpus, memoryMib, machines, diskMib = 0 } = room.capacity;
  const more = { cpus: cpus + 1, memoryMib: memoryMib + 1_024, machines: machines + 1 };
  const capacity = { ...more, diskMib: diskMib + DISK_MIB };
  host.room = { ...room, capacity };
}

function endJob(history: History, which: number): void {
  const booting = [...history.machines.values()].filter(({ state }) => state === "booting");
  const machine = pick(booting, which);
  if (machine?.jobId == null) return;
  if (history.jobs.get(machine.jobId)?.machineId !== machine.id) return;
  history.setJob(machine.jobId, { state: "finished" });
}

async function happen(history: History, { kind, which, luck }: Step): Promise<void> {
  if (kind === "poll") await history.poll(which);
  else if (kind === "answer") history.answer(which, luck[0] ?? true);
  else if (kind === "round") history.round(luck);
  else if (kind === "end") endJob(history, which);
  else if (kind === "restart") history.restart();
  else happenToHost(history, kind, which);
}

function aHistory(
  hosts: readonly { cpus: number; machines: number; disks: number; zone: string }[],
  pools: (typeof small)[],
  policy: PlacementPolicy,
) {
  const all = hosts.map(({ cpus, machines, disks, zone }, index): Host => {
    const capacity = { cpus, memoryMib: cpus * 1_024, machines, diskMib: disks * DISK_MIB };
    return {
      room: aHostCapacity({ key: `fake/m${index}`, capacity, labels: { zone } }),
      isSilent: false,
      there: new Set(),
    };
  });
  return new History(all, pools, policy);
}

test("no host is over its capacity in 10,000 histories of claims, starts, ends and failures", async () => {
  let machines = 0;
  await fc.assert(
    fc.asyncProperty(...anyHistory, async (hosts, steps, placement) => {
      const history = aHistory(hosts, [small, large, zoned], placement);
      for (const step of steps) {
        await happen(history, step);
        expect(history.overfull()).toEqual([]);
      }
      machines += history.machines.size;
    }),
    { numRuns: 10_000 },
  );
  // A history in which nothing runs proves nothing.
  expect(machines).toBeGreaterThan(10_000);
}, 120_000);

test("while hosts are well, every job that was claimed finds its machine in the next round", async () => {
  await fc.assert(
    fc.asyncProperty(...anyHistory, async (hosts, steps, placement) => {
      const history = aHistory(hosts, [small], placement);
      const calm = steps.filter(({ kind }) => ["poll", "answer", "round", "end"].includes(kind));
      for (const step of calm) {
        await happen(history, { ...step, luck: step.kind === "round" ? [true] : step.luck });
        const claimed = [...history.jobs.values()].filter(({ state }) => state === "claimed");
        if (step.kind === "round") expect(claimed).toEqual([]);
      }
    }),
    { numRuns: 1_000 },
  );
}, 60_000);
