/** FireRunner itself: the real scheduler, claimer and slots over the models of GitLab, the relay and the hosts. */
import type { Clock } from "../../src/base/clock.ts";
import { newMachineId } from "../../src/base/ids.ts";
import { silentLog } from "../../src/base/log.ts";
import { createClaimer } from "../../src/claiming/claimer.ts";
import { ClaimingConfig } from "../../src/claiming/config.ts";
import { createSlots } from "../../src/claiming/slots.ts";
import type { RunnerApi } from "../../src/gitlab/runner-api.ts";
import { SchedulerConfig, ShutdownConfig } from "../../src/scheduler/config.ts";
import type { JobImages } from "../../src/scheduler/ports.ts";
import { createScheduler } from "../../src/scheduler/scheduler.ts";
import { anImage } from "../builders/image.ts";
import type { SimClock } from "./sim-clock.ts";
import { createSimProcess, type SimProcess } from "./sim-process.ts";
import { createSimRelay } from "./sim-relay.ts";
import type { Life, Site, World } from "./world.ts";

const config = SchedulerConfig.parse({
  tick: "5s",
  bootDeadline: "40s",
  silenceLimit: "60s",
  createTimeout: "10s",
  destroyTimeout: "10s",
  healthInterval: "1m",
});

/** FireRunner runs, is killed or stopped, and is started again, on the same store and beside the same machines. */
export async function liveAndDie(
  world: World,
  site: Site,
  setLife: (life: Life | undefined) => void,
): Promise<void> {
  const { clock, random, isFaulty } = world;
  let deathsLeft = random.pick([0, 1, 2, 3]);
  for (;;) {
    const deathChance = deathsLeft > 0 ? random.pick([0.001, 0.005, 0.02]) / site.callsPerRound : 0;
    const process = createSimProcess(() => isFaulty() && deathChance > 0 && random.chance(deathChance));
    const life = await startLife(world, site, process);
    setLife(life);
    site.attend(life);
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

/** Some jobs name images, which take their time, and more of it than a machine may. */
function slowImages({ random }: World, { sleep }: Pick<Clock, "sleep">): JobImages {
  return {
    async prepare(_wanted, signal) {
      if (random.chance(0.3)) await sleep(random.between(10, 30_000), signal);
      return { disks: [], lines: [] };
    },
  };
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

async function startLife(world: World, site: Site, process: SimProcess): Promise<Life> {
  const { clock, random } = world;
  const byName = new Map(site.pools.map((pool) => [pool.name, pool]));
  const pools = () => byName;
  const store = process.guard(world.store, ["onEvent", "machineToken"]);
  const api = guardApi(world, process);
  const fleet = site.open(process, store);
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
    fleet,
    placement: "spread",
    images: { resolve: async () => anImage },
    jobImages: process.guard(slowImages(world, ownClock), []),
    relay: process.guard(relay, ["lastHeardAt", "lastStatusAt", "endOf"]),
    newMachineId: () => newMachineId(random.bytes),
    config,
    shutdown: ShutdownConfig.parse({}),
    disk: { freeBytes: async () => 2 ** 40, minFreeBytes: 0 },
  });
  const slots = createSlots({ store, pools, hosts: scheduler.capacities, placement: "spread" });
  const claimer = createClaimer({
    ...deps,
    slots,
    config: ClaimingConfig.parse({}),
    canClaim: scheduler.canClaim,
    runnerInfo: scheduler.runnerInfo,
  });
  scheduler.start();
  claimer.start();
  return { process, scheduler, claimer, relay, fleet, store };
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
