/**
 * A whole installation in memory: the real store, scheduler, claimer and fake drivers; models of GitLab, the relay and guests;
 * time, chance and faults from one seed.
 */

import { silentLog } from "../../src/base/log.ts";
import { createStore } from "../../src/store/create-store.ts";
import type { FakeGuest } from "../../src/vm/fake/host.ts";
import { createRandom } from "./random.ts";
import { createSimClock } from "./sim-clock.ts";
import { createFleetSite } from "./sim-fleet.ts";
import { createSimGitLab } from "./sim-gitlab.ts";
import { playGuest, rollFate } from "./sim-guest.ts";
import { liveAndDie } from "./sim-life.ts";
import { createOneHost } from "./sim-one-host.ts";
import type { Life, Site, SiteOf, World } from "./world.ts";

/** Faults happen until then; afterwards everything must come to its end. */
const FAULTY_MS = 60_000;
const LIMIT_MS = 3_600_000;

/** The kinds of worlds, by name. */
const worlds = { host: createOneHost, fleet: createFleetSite } satisfies Record<string, SiteOf>;
export type WorldKind = keyof typeof worlds;

export function isWorldKind(name: string): name is WorldKind {
  return Object.hasOwn(worlds, name);
}

/** A world at its end. */
export interface EndedWorld extends World {
  readonly site: Site;
}

/** Runs one seed to its end and returns the world as it is then. Throws when it does not come to an end. */
export async function runWorld(
  kind: WorldKind,
  seed: number,
  keyFile: string,
  history: string[],
): Promise<EndedWorld> {
  const clock = createSimClock();
  const random = createRandom(seed);
  const startedAt = clock.now();
  let ended = false;
  const isFaulty = () => !ended && clock.now() < startedAt + FAULTY_MS;
  const gitlab = createSimGitLab(clock, random, isFaulty);
  const store = await createStore({
    database: ":memory:",
    keyFile,
    clock,
    log: silentLog,
    random: createRandom(seed + 2 ** 31).bytes,
  });
  let current: Life | undefined;
  const world: World = {
    ...{ seed, clock, random, gitlab, store, history, isFaulty },
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
  const site: Site = worlds[kind](
    world,
    guestsOf(world, () => site),
  );
  void liveAndDie(world, site, (life) => {
    current = life;
  });
  void takeGitLabDown(world);
  let isHealed = false;
  void site.trouble().then(() => {
    isHealed = true;
  });
  const added = addJobs(world, site.jobs);
  ended = await clock.runUntil(() => added.isDone && isHealed && isOver(world, site), LIMIT_MS);
  let stopped = current === undefined;
  void current?.scheduler.stop().then(() => {
    stopped = true;
  });
  await clock.runUntil(() => stopped, 30_000);
  if (!ended) throw new Error(`seed ${seed}: not at its end after ${LIMIT_MS / 60_000} minutes`);
  return { ...world, site };
}

function isOver(world: World, site: Site): boolean {
  const { gitlab, lostClaims } = world;
  const openJobs = [...gitlab.jobs.values()].filter(({ id, status }) => {
    const isOpen = status === "pending" || status === "running" || status === "canceling";
    return isOpen && !lostClaims.has(id);
  });
  if (openJobs.length > 0 || site.leftovers().length > 0) return false;
  const status = world.life()?.scheduler.status();
  return status?.unfinishedJobs === 0 && status.liveMachines === 0 && status.work.length === 0;
}

/** Jobs come now and then, some of them together. */
function addJobs(world: World, count: number): { isDone: boolean } {
  const { clock, random, gitlab } = world;
  const state = { isDone: false };
  // However many there are, most come while things go wrong.
  const longestMs = count <= 10 ? 20_000 : Math.round(40_000 / count);
  void (async () => {
    for (let job = 0; job < count; job++) {
      const { id } = gitlab.add();
      world.log(`job ${id} is pending`);
      if (random.chance(0.2)) void cancelSometime(world, id);
      if (random.chance(0.5)) await clock.sleep(random.between(0, longestMs));
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

function guestsOf(world: World, site: () => Site): (guest: FakeGuest) => Promise<void> {
  const { clock, random, isFaulty } = world;
  const faultChance = random.pick([0, 0.1, 0.4]);
  const started = new Set<string>();
  return async (guest) => {
    const isAgain = started.has(guest.spec.id);
    started.add(guest.spec.id);
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
          if (!life?.process.isAlive() || site().isCutOff(guest)) throw new Error("connection refused");
          const { relay, process } = life;
          const served = async () => {
            await relay.admit(machineId, guest.link?.secret.reveal(), isAgain);
            await clock.sleep(random.between(0, 5));
            return await talk(relay);
          };
          return await Promise.race([served(), process.death]);
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

async function takeGitLabDown({ clock, random, gitlab, isFaulty, log }: World): Promise<void> {
  while (isFaulty()) {
    await clock.sleep(random.between(2_000, 20_000));
    if (!random.chance(0.2)) continue;
    const untilAt = clock.now() + random.between(1_000, 40_000);
    log("GitLab goes down");
    gitlab.goDown(untilAt);
  }
}
