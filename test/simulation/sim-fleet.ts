/** A fleet whose hosts come and go, by themselves and by configuration, and which somebody looks after. */
import { createHostCommands } from "../../src/app/host-commands.ts";
import { createHostRegistry, type HostRegistry } from "../../src/app/hosts.ts";
import { newMachineId } from "../../src/base/ids.ts";
import { silentLog } from "../../src/base/log.ts";
import type { Pool } from "../../src/domain/pool.ts";
import type { HostPorts } from "../../src/server/routes/ports.ts";
import type { FakeHost } from "../../src/vm/fake/host.ts";
import { createFleet } from "../../src/vm/fleet.ts";
import { aPool } from "../builders/pool.ts";
import { aSize } from "../builders/size.ts";
import type { Random } from "./random.ts";
import { createSimHost, type SimHost } from "./sim-host.ts";
import { createLedger } from "./sim-ledger.ts";
import type { Life, Site, World } from "./world.ts";

interface Shape {
  readonly hosts: number;
  readonly machinesPerHost: number;
  readonly jobs: number;
}

/** Most seeds are small, so that there can be many; every hundredth is a fleet of 50 hosts with room for 20 machines each. */
function shapeOf(seed: number, random: Random): Shape {
  if (seed % 100 === 0) return { hosts: 50, machinesPerHost: 20, jobs: seed % 1_000 === 0 ? 1_000 : 100 };
  return {
    hosts: random.between(2, 5),
    machinesPerHost: random.between(1, 3),
    jobs: random.between(2, 8),
  };
}

/** What one life gives to those who look after the fleet. */
interface Tools {
  readonly life: Life;
  readonly registry: HostRegistry<SimHost>;
  readonly receiver: Omit<HostPorts, "tryHost">;
}

interface Fleet {
  readonly world: World;
  readonly hosts: readonly SimHost[];
  /** The hosts in the configuration. */
  readonly configured: Set<SimHost>;
  /** Everybody whose row is on this host may be lost now. */
  harm(host: SimHost): void;
  /** True when it was done; false when FireRunner does not run, or died over it. */
  operate(work: (tools: Tools) => Promise<unknown>): Promise<boolean>;
}

const keyOf = ({ name }: SimHost) => `fake/${name}`;

export function createFleetSite(world: World, play: FakeHost["onCreate"]): Site {
  const { random, clock, store, harmed } = world;
  const shape = shapeOf(world.seed, random);
  const ledger = createLedger(clock, (key) => hosts.find((host) => keyOf(host) === key)?.capacity);
  const hosts = Array.from({ length: shape.hosts }, (_, index) =>
    createSimHost(world, ledger, aHost(random, index, shape.machinesPerHost), play),
  );
  const configured = new Set(hosts.filter((_, index) => index === 0 || random.chance(0.8)));
  store.onEvent((event) => {
    ledger.hear(event);
    if (event.kind !== "machine:creating" || event.machineId === null) return;
    const host = hosts.find(({ name }) => name === event.detail.host);
    if (host && (host.state !== "well" || !configured.has(host))) harmed.add(event.machineId);
  });
  let registry: HostRegistry<SimHost> | undefined;
  let tools: Tools | undefined;

  const fleet: Fleet = {
    world,
    hosts,
    configured,
    harm(host) {
      for (const id of [...ledger.liveOn(keyOf(host)), ...host.host.ids()]) harmed.add(id);
    },
    async operate(work) {
      const { process } = world.life() ?? {};
      if (!tools || !process?.isAlive() || tools.life.process !== process) return false;
      const done = work(tools).then(
        () => true,
        (error: unknown) => {
          world.log(`that could not be done: ${error}`);
          return false;
        },
      );
      return await Promise.race([done, process.death.catch(() => false)]);
    },
  };

  return {
    pools: poolsFor(random),
    jobs: shape.jobs,
    callsPerRound: shape.hosts,
    open(process, its) {
      const joined = createFleet([]);
      const make = (host: SimHost) => host.open(process);
      registry = createHostRegistry({ fleet: joined, store: its, make, isSame: () => true, log: silentLog });
      void registry.apply(byName(configured));
      return joined;
    },
    attend(life) {
      if (!registry) return;
      const { isLeaving } = registry;
      tools = {
        life,
        registry,
        receiver: createHostCommands({ ...life, isLeaving, onCapacity: life.claimer.wake }),
      };
    },
    async trouble() {
      await Promise.all([harmHosts(fleet), lookAfter(fleet)]);
      await heal(fleet);
    },
    isCutOff: ({ spec }) => hosts.some((host) => host.isCutOff && host.host.status(spec.id) !== undefined),
    leftovers: () => hosts.flatMap(({ name, host }) => host.ids().map((id) => `${id} on ${name}`)),
    violations: ledger.violations,
  };
}

function aHost(random: Random, index: number, machines: number) {
  const disks = random.pick([undefined, machines, Math.ceil(machines / 2)]);
  const diskMib = disks === undefined ? undefined : disks * aSize().diskMib;
  return {
    name: `metal-${index + 1}`,
    labels: { zone: random.pick(["a", "b"]) },
    capacity: { cpus: machines * 2, memoryMib: machines * 1_024, machines, diskMib },
  };
}

function poolsFor(random: Random): Pool[] {
  const small = aPool({ concurrency: 1_000 });
  const large = aPool({ name: "large", size: aSize({ cpus: 2, memoryMib: 1_024 }), concurrency: 500 });
  return random.chance(0.5) ? [small] : [small, large];
}

function byName(hosts: Iterable<SimHost>): Map<string, SimHost> {
  return new Map([...hosts].map((host) => [host.name, host]));
}

/** What happens to hosts that nobody wanted. */
async function harmHosts(fleet: Fleet): Promise<void> {
  const { world, hosts } = fleet;
  const { clock, random, isFaulty, log } = world;
  const longest = 16_000 / Math.sqrt(hosts.length);
  while (isFaulty()) {
    await clock.sleep(random.between(500, longest));
    const host = random.pick(hosts);
    if (!isFaulty() || host.state !== "well") continue;
    const kind = random.pick(["vanishes", "vanishes", "sulks", "sulks", "dies", "loses", "strange"] as const);
    if (kind === "vanishes") void vanish(fleet, host);
    if (kind === "sulks") void sulk(fleet, host);
    if (kind === "dies" && random.chance(0.4)) die(fleet, host);
    if (kind === "strange") host.startStranger(newMachineId(random.bytes));
    const [id] = host.host.ids();
    if (kind !== "loses" || id === undefined) continue;
    log(`${id} is taken away from ${host.name}`);
    world.harmed.add(id);
    host.host.remove(id);
  }
}

async function vanish(fleet: Fleet, host: SimHost): Promise<void> {
  const { clock, random, log } = fleet.world;
  fleet.harm(host);
  host.state = random.pick(["hanging", "away"]);
  host.isCutOff = random.chance(0.5);
  const end = random.pick(["as it was", "as it was", "empty", "with old machines"] as const);
  log(`${host.name} is ${host.state}${host.isCutOff ? " and cut off" : ""}`);
  await clock.sleep(random.between(1_000, 50_000));
  if (isDead(host)) return;
  fleet.harm(host);
  if (end === "empty") host.empty();
  if (end === "with old machines") host.startOldMachines();
  Object.assign(host, { state: "well", isCutOff: false });
  log(`${host.name} is back ${end}`);
}

/** It answers, and makes no machines. */
async function sulk({ world }: Fleet, host: SimHost): Promise<void> {
  const { clock, random, log } = world;
  host.mood = random.pick(["refusing", "without image", "slow"]);
  log(`${host.name} is ${host.mood}`);
  await clock.sleep(random.between(1_000, 90_000));
  host.mood = "willing";
  log(`${host.name} is willing again`);
}

function isDead({ state }: SimHost): boolean {
  return state === "dead";
}

function die(fleet: Fleet, host: SimHost): void {
  fleet.world.log(`${host.name} dies`);
  fleet.harm(host);
  Object.assign(host, { state: "dead", isCutOff: true });
  host.empty();
}

/** What people do: they drain and resume, take hosts in and out, and forget the dead. */
async function lookAfter(fleet: Fleet): Promise<void> {
  const { world, hosts, configured } = fleet;
  const { clock, random, isFaulty } = world;
  while (isFaulty()) {
    await clock.sleep(random.between(1_000, 12_000));
    const host = random.pick(hosts);
    if (!isFaulty()) return;
    if (host.state === "dead") await bury(fleet, host);
    else if (random.chance(0.5)) await drainOrResume(fleet, host);
    else await configure(fleet, host, !configured.has(host));
  }
}

async function drainOrResume({ world, configured, operate }: Fleet, host: SimHost): Promise<void> {
  if (!configured.has(host)) return;
  const isDrained = (await world.store.drainedHosts()).includes(keyOf(host));
  world.log(`${host.name} is ${isDrained ? "resumed" : "drained"}`);
  await operate(({ receiver }) => (isDrained ? receiver.resume(host.name) : receiver.drain(host.name)));
}

async function configure(fleet: Fleet, host: SimHost, isWanted: boolean): Promise<boolean> {
  const { configured, world } = fleet;
  if (!isWanted) fleet.harm(host);
  if (isWanted) configured.add(host);
  else configured.delete(host);
  world.log(`${host.name} is ${isWanted ? "in" : "out of"} the configuration`);
  return await fleet.operate(({ registry }) => registry.apply(byName(configured)));
}

/** A host that is gone for good; sometimes another one of its name takes its place, or it turns out not to be gone. */
async function bury(fleet: Fleet, host: SimHost): Promise<boolean> {
  const { world } = fleet;
  if (!(await configure(fleet, host, false))) return false;
  if (!(await fleet.operate(({ receiver }) => receiver.forget(host.name)))) return false;
  world.log(`${host.name} is forgotten`);
  if (!world.isFaulty() || world.random.chance(0.5)) return true;
  if (world.random.chance(0.5)) host.startOldMachines();
  Object.assign(host, { state: "well", isCutOff: false });
  return await configure(fleet, host, true);
}

/** After the faults: every host works again or is forgotten, and nothing is drained. */
async function heal(fleet: Fleet): Promise<void> {
  const { hosts, world } = fleet;
  // Those that are away come back by themselves.
  for (const each of hosts)
    while (each.state === "hanging" || each.state === "away") await world.clock.sleep(1_000);
  const dead = hosts.filter(({ state }) => state === "dead");
  const left = hosts.filter(({ state }) => state !== "dead");
  const steps = [
    ...left.map((host) => () => configure(fleet, host, true)),
    ...dead.map((host) => () => (isDead(host) ? bury(fleet, host) : configure(fleet, host, true))),
    () => resumeAll(fleet),
  ];
  if (left.length === 0) steps.unshift(() => revive(fleet, dead));
  for (const step of steps) while (!(await step())) await world.clock.sleep(2_000);
}

async function resumeAll({ world, operate }: Fleet): Promise<boolean> {
  const drained = await world.store.drainedHosts();
  return await operate(({ receiver }) =>
    Promise.all(drained.map((key) => receiver.resume(key.slice("fake/".length)))),
  );
}

/** Somebody buys a new one. */
async function revive(fleet: Fleet, dead: readonly SimHost[]): Promise<boolean> {
  const [host] = dead;
  if (!host) return true;
  Object.assign(host, { state: "well", isCutOff: false });
  return await configure(fleet, host, true);
}
