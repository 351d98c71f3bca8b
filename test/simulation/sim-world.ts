/**
 * A whole installation in memory: the real store, scheduler, claimer and fake driver; models of GitLab, the relay and guests;
 * time, chance and faults from one seed.
 */

import { newMachineId } from "../../src/base/ids.ts";
import { silentLog } from "../../src/base/log.ts";
import type { RunnerApi } from "../../src/gitlab/runner-api.ts";
import { type Claimer, createClaimer } from "../../src/intake/claimer.ts";
import { ClaimingConfig } from "../../src/intake/config.ts";
import { createSlots } from "../../src/intake/slots.ts";
import type { Pool } from "../../src/lifecycle/pool.ts";
import { SchedulerConfig, ShutdownConfig } from "../../src/scheduler/config.ts";
import type { ImageSource } from "../../src/scheduler/ports.ts";
import { createScheduler, type Scheduler } from "../../src/scheduler/scheduler.ts";
import { createStore } from "../../src/store/create-store.ts";
import type { Store } from "../../src/store/store.ts";
import type { VmDriver } from "../../src/vm/driver.ts";
import { VmError } from "../../src/vm/errors.ts";
import { createFakeDriver } from "../../src/vm/fake/driver.ts";
import { createFakeHost, type FakeHost } from "../../src/vm/fake/host.ts";
import { createFleet } from "../../src/vm/fleet.ts";
import { aPool } from "../builders/pool.ts";
import { createRandom, type Random } from "./random.ts";
import { createSimClock, type SimClock } from "./sim-clock.ts";
import { createSimGitLab, type SimGitLab } from "./sim-gitlab.ts";
import { playGuest, rollFate } from "./sim-guest.ts";
import { createSimProcess, type SimProcess } from "./sim-process.ts";
import { createSimRelay, type SimRelay } from "./sim-relay.ts";

/** Faults happen until then; afterwards everything must come to its end. */
const FAULTY_MS = 60_000;
const LIMIT_MS = 1_800_000;

interface Life {
  readonly process: SimProcess;
  readonly scheduler: Scheduler;
  readonly claimer: Claimer;
  readonly relay: SimRelay;
}

export interface World {
  readonly seed: number;
  readonly clock: SimClock;
  readonly random: Random;
  readonly gitlab: SimGitLab;
  readonly host: FakeHost;
  readonly store: Store;
  /** What happened, for the report of a failure. */
  readonly history: string[];
  /** Machines that something was done to: only they may be given up. */
  readonly harmed: Set<string>;
  readonly payloads: { readonly machineId: string; readonly jobId: number }[];
  /** Jobs that GitLab gave to a life that died before it could write them down. */
  readonly lostClaims: Set<number>;
  /** Outcome of each job's script, where it ran to its end. */
  readonly truths: Map<number, "success" | "failed">;
  isFaulty(): boolean;
  life(): Life | undefined;
  log(text: string): void;
}

const config = SchedulerConfig.parse({
  tick: "5s",
  bootDeadline: "40s",
  silenceLimit: "60s",
  createTimeout: "10s",
  destroyTimeout: "10s",
  healthInterval: "1m",
});

const images: ImageSource = {
  resolve: async () => ({
    digest: `sha256:${"0".repeat(64)}`,
    architecture: "amd64",
    kernel: "/images/kernel",
    initramfs: "/images/initramfs",
    layers: ["/images/base"],
    runnerInfo: { name: "gitlab-runner" },
  }),
};

/** Runs one seed to its end and returns the world as it is then. Throws when it does not come to an end. */
export async function runWorld(seed: number, keyFile: string, history: string[]): Promise<World> {
  const clock = createSimClock();
  const random = createRandom(seed);
  const startedAt = clock.now();
  let ended = false;
  const isFaulty = () => !ended && clock.now() < startedAt + FAULTY_MS;
  const gitlab = createSimGitLab(clock, random, isFaulty);
  const host = createFakeHost(clock);
  const store = await createStore({
    database: ":memory:",
    keyFile,
    clock,
    log: silentLog,
    random: createRandom(seed + 2 ** 31).bytes,
  });
  let current: Life | undefined;
  const world: World = {
    ...{ seed, clock, random, gitlab, host, store, history, isFaulty },
    harmed: new Set(),
    payloads: [],
    lostClaims: new Set(),
    truths: new Map(),
    life: () => current,
    log: (text) => history.push(`${String(clock.now() - startedAt).padStart(7)} ${text}`),
  };
  store.onEvent((event) =>
    world.log(`${event.kind} ${event.jobId ?? ""} ${event.machineId ?? ""} ${JSON.stringify(event.detail)}`),
  );
  setFaults(world);
  setGuests(world);
  void liveAndDie(world, (life) => {
    current = life;
  });
  void causeTrouble(world);
  const added = await addJobs(world);
  ended = await clock.runUntil(() => added.isDone && isOver(world), LIMIT_MS);
  let stopped = current === undefined;
  void current?.scheduler.stop().then(() => {
    stopped = true;
  });
  await clock.runUntil(() => stopped, 30_000);
  if (!ended) throw new Error(`seed ${seed}: not at its end after ${LIMIT_MS / 60_000} minutes`);
  return world;
}

function isOver(world: World): boolean {
  const { gitlab, host, lostClaims } = world;
  const life = world.life();
  const status = life?.scheduler.status();
  const openJobs = [...gitlab.jobs.values()].filter(({ id, status }) => {
    const isOpen = status === "pending" || status === "running" || status === "canceling";
    return isOpen && !lostClaims.has(id);
  });
  return (
    openJobs.length === 0 &&
    host.ids().length === 0 &&
    status?.unfinishedJobs === 0 &&
    status.liveMachines === 0 &&
    status.work.length === 0
  );
}

/** Jobs come now and then, some of them together. */
async function addJobs(world: World): Promise<{ isDone: boolean }> {
  const { clock, random, gitlab } = world;
  const state = { isDone: false };
  const count = random.between(1, 5);
  void (async () => {
    for (let job = 0; job < count; job++) {
      const { id } = gitlab.add();
      world.log(`job ${id} is pending`);
      if (random.chance(0.2)) void cancelSometime(world, id);
      if (random.chance(0.5)) await clock.sleep(random.between(0, 20_000));
    }
    state.isDone = true;
  })();
  return state;
}

async function cancelSometime({ clock, random, gitlab, log }: World, id: number): Promise<void> {
  await clock.sleep(random.between(0, 30_000));
  gitlab.cancel(id, random.chance(0.4));
  log(`job ${id} is canceled`);
}

function setFaults({ host, random, isFaulty, harmed }: World): void {
  const broken = (what: string) => new VmError("vm_create_failed", what, { retryable: true });
  host.faults.create = ({ id }) => {
    const delayMs = random.between(10, 600);
    if (!isFaulty() || random.chance(0.8)) return { delayMs };
    harmed.add(id);
    return random.pick([
      { hang: true },
      { delayMs: 12_000 },
      { delayMs, fail: broken("no room for a disk") },
    ]);
  };
  host.faults.destroy = () =>
    isFaulty() && random.chance(0.2) ? new VmError("vm_destroy_failed", "it would not go away") : undefined;
  host.faults.list = () => (isFaulty() && random.chance(0.05) ? broken("the host is busy") : undefined);
}

function setGuests(world: World): void {
  const { clock, random, host, isFaulty } = world;
  const faultChance = random.pick([0, 0.1, 0.4]);
  host.onCreate = async (guest) => {
    const fate = rollFate(random, isFaulty() ? faultChance : 0);
    if (fate.fault !== "none") {
      world.log(`${guest.spec.id} ${fate.fault} in ${fate.phase}`);
      world.harmed.add(guest.spec.id);
    }
    await playGuest(
      {
        clock,
        random,
        exchange: async (machineId, talk) => {
          const life = world.life();
          if (!life?.process.isAlive() || !life.relay.isOpen(machineId))
            throw new Error("connection refused");
          await clock.sleep(random.between(0, 5));
          return await Promise.race([talk(life.relay), life.process.death]);
        },
        onPayload: (machineId, jobId) => {
          world.payloads.push({ machineId, jobId });
          if (fate.fault === "none") world.truths.set(jobId, fate.result);
        },
      },
      guest,
      fate,
    );
  };
}

/** Outages of GitLab, machines that somebody takes away, and machines that nobody knows. */
async function causeTrouble(world: World): Promise<void> {
  const { clock, random, gitlab, host, isFaulty } = world;
  while (isFaulty()) {
    await clock.sleep(random.between(2_000, 20_000));
    if (random.chance(0.2)) {
      const untilAt = clock.now() + random.between(1_000, 40_000);
      world.log("GitLab goes down");
      gitlab.goDown(untilAt);
    }
    if (random.chance(0.05)) {
      const image = await images.resolve("base");
      world.log("a machine appears that nobody knows");
      host.start({ id: newMachineId(random.bytes), size: { cpus: 1, memoryMib: 512, diskMib: 512 }, image });
    }
    const id = host.ids()[0];
    if (id !== undefined && isFaulty() && random.chance(0.1)) {
      world.harmed.add(id);
      world.log(`${id} is taken away`);
      host.remove(id);
    }
  }
}

/** FireRunner runs, is killed or stopped, and is started again, on the same store and beside the same machines. */
async function liveAndDie(world: World, setLife: (life: Life | undefined) => void): Promise<void> {
  const { clock, random, isFaulty } = world;
  let deathsLeft = random.pick([0, 1, 2, 3]);
  for (;;) {
    const deathChance = deathsLeft > 0 ? random.pick([0.001, 0.005, 0.02]) : 0;
    const process = createSimProcess(() => isFaulty() && deathChance > 0 && random.chance(deathChance));
    const life = await startLife(world, process);
    setLife(life);
    world.log("FireRunner starts");
    const isToEnd = deathsLeft > 0 && random.chance(0.3);
    const how = await Promise.race([
      process.death.catch(() => "is killed"),
      isToEnd ? stopSometime(world, life) : new Promise<string>(() => {}),
    ]);
    process.kill();
    world.log(`FireRunner ${how}`);
    setLife(undefined);
    deathsLeft--;
    await clock.sleep(random.between(10, 20_000));
  }
}

async function stopSometime(
  { clock, random, log }: World,
  { process, claimer, scheduler }: Life,
): Promise<string> {
  await clock.sleep(random.between(0, 20_000));
  if (process.isAlive()) log("FireRunner is told to end");
  await claimer.stop();
  await scheduler.shutDown(AbortSignal.abort());
  return "has ended";
}

async function startLife(world: World, process: SimProcess): Promise<Life> {
  const { clock, random, host } = world;
  const pool = aPool({ concurrency: 4 });
  const pools = () => new Map<string, Pool>([[pool.name, pool]]);
  const store = process.guard(world.store, ["onEvent", "machineToken"]);
  const api = guardApi(world, process);
  const bare = createFakeDriver({ host, capacity: { cpus: 3, memoryMib: 16_384, machines: 3 } });
  process.onDeath(() => void bare.close());
  const driver: VmDriver = process.guard(bare, ["relaySocket", "onExit", "followConsole", "trouble"]);
  const ownClock = { now: clock.now, sleep: sleepOf(process, clock) };
  const relay = createSimRelay({
    store,
    api,
    clock: ownClock,
    head: (id) => `FireRunner: machine ${id} was ready\n`,
  });
  const deps = { store, api, clock: ownClock, log: silentLog, random: random.next, pools };
  const scheduler = createScheduler({
    ...deps,
    fleet: createFleet([driver]),
    placement: "spread",
    images,
    door: process.guard(relay, ["lastHeardAt", "lastStandingAt", "endOf"]),
    newMachineId: () => newMachineId(random.bytes),
    config,
    shutdown: ShutdownConfig.parse({}),
    disk: { freeBytes: async () => 2 ** 40, minFreeBytes: 0 },
  });
  const slots = createSlots({ store, pools, rooms: scheduler.rooms, placement: "spread" });
  const claimer = createClaimer({
    ...deps,
    slots,
    config: ClaimingConfig.parse({}),
    canClaim: scheduler.canClaim,
    runnerInfo: scheduler.runnerInfo,
  });
  scheduler.start();
  claimer.start();
  return { process, scheduler, claimer, relay };
}

/** Sleepers of a dead process never wake. */
function sleepOf(process: SimProcess, clock: SimClock): SimClock["sleep"] {
  return (ms, signal) =>
    new Promise((resolve, reject) => {
      clock.sleep(ms, signal).then(
        () => process.isAlive() && resolve(),
        (error) => process.isAlive() && reject(error),
      );
    });
}

/** Notes the jobs whose 201 nobody lived to read. */
function guardApi(world: World, process: SimProcess): RunnerApi {
  const api: RunnerApi = {
    ...world.gitlab.api,
    requestJob: async (request) => {
      const answer = await world.gitlab.api.requestJob(request);
      if (answer.kind === "job") void noteIfLost(world, process, answer.payload.id);
      return answer;
    },
  };
  return process.guard(api);
}

async function noteIfLost(world: World, process: SimProcess, jobId: number): Promise<void> {
  await process.death.catch(() => {});
  await world.clock.sleep(0);
  if ((await world.store.job(jobId)) === undefined) world.lostClaims.add(jobId);
}
