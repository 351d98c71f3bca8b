/**
 * FireRunner is killed while it manages its runners in GitLab: before and after every call that changes something or asks GitLab.
 * Where it is killed at a call that only reads the store, or while it sleeps, the world is the same as after the call before.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { silentLog } from "../../src/base/log.ts";
import { createManualClock, type ManualClock } from "../../src/base/manual-clock.ts";
import type { Demand, PendingJob } from "../../src/discovery/pending-job.ts";
import { routeJob } from "../../src/domain/routing.ts";
import type { GitLabRest } from "../../src/gitlab/rest-api.ts";
import type { RunnerApi } from "../../src/gitlab/runner-api.ts";
import type { RunnerProvisioner } from "../../src/runners/provisioner.ts";
import { createRunnerProvisioner } from "../../src/runners/provisioner.ts";
import { createStore } from "../../src/store/create-store.ts";
import type { Store } from "../../src/store/store.ts";
import { aManagingGitLab, type ManagingGitLab } from "../builders/managing-gitlab.ts";
import { tagRules } from "../builders/tag-rules.ts";
import { createSimProcess, type SimProcess } from "./sim-process.ts";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const RESTART_MS = 20 * SECOND;
/** In so long a new life has put right what the last one left. */
const RECOVERY_MS = 6 * MINUTE;
const TOKEN_LIFE_MS = 14 * MINUTE;
const installation = "test";
const small = "firecracker-1cpu-1gb";
const large = "firecracker-2cpu-4gb";

/** Where a kill makes a difference. */
const places: readonly string[] = [
  ...[
    "addRunner",
    "activateRunner",
    "replaceRunnerToken",
    "noteRunnerVerified",
    "retireRunner",
    "markRunnerGone",
  ],
  ...["createRunner", "restoreRunner", "runnersOf", "deleteRunner", "hasRunningJobs", "verify", "resetToken"],
];

interface Story {
  readonly perJob: boolean;
  /** At which of the places each life ends; the last life goes on to the end. */
  readonly kills: readonly number[];
  /** With its life it loses the state directory. */
  readonly losesStore: boolean;
}

/** One history of kills on one GitLab. */
interface World {
  readonly story: Story;
  readonly clock: ManualClock;
  readonly gitlab: ManagingGitLab;
  readonly root: string;
  waiting: readonly PendingJob[];
  readonly listeners: Set<() => void>;
  life: Life | undefined;
  lives: number;
  /** When the present life began. */
  bornAt: number;
  /** Calls to real files that have not ended. */
  inFlight: number;
  diedAt: number | undefined;
  readonly doubled: string[];
}

interface Life {
  readonly process: SimProcess;
  readonly provisioner: RunnerProvisioner;
  readonly store: Store;
}

async function aWorld(story: Story): Promise<World> {
  const clock = createManualClock();
  return {
    ...{ story, clock, gitlab: aManagingGitLab(clock, TOKEN_LIFE_MS) },
    root: await mkdtemp(join(tmpdir(), "fr-kills-")),
    ...{
      waiting: [],
      listeners: new Set(),
      life: undefined,
      lives: 0,
      bornAt: 0,
      inFlight: 0,
      diedAt: undefined,
    },
    doubled: [],
  };
}

async function begin(world: World): Promise<void> {
  const { story, clock, gitlab, root } = world;
  const number = world.lives++;
  world.bornAt = clock.now();
  const killAt = story.kills[number];
  let passed = 0;
  const process = createSimProcess((call) => places.includes(call) && ++passed === killAt);
  process.onDeath(() => {
    world.diedAt = clock.now();
  });
  const directory = join(root, story.losesStore ? `state-${number}` : "state");
  const file = { database: join(directory, "firerunner.db"), keyFile: join(directory, "key") };
  const store = await createStore({ ...file, clock, log: silentLog });
  const runners = { keepUnused: MINUTE, most: 50, verifyInterval: 5 * MINUTE, protected: false };
  let keys = 0;
  const provisioner = createRunnerProvisioner({
    ...{ installation, hostname: "host", log: silentLog, random: () => 0.5 },
    clock: process.guard(clock, ["now"]),
    store: process.guard(counted(world, store), ["onEvent"]),
    rest: process.guard(gitlab.rest) as GitLabRest,
    api: process.guard(gitlab.api) as RunnerApi,
    demand: process.guard(demandOf(world), ["pending", "find", "onChange"]),
    scope: async () => ({ kind: "group", id: 3, path: "group" }),
    rules: () => tagRules(),
    config: () => ({ ...runners, perJob: story.perJob }),
    runnerInfo: () => undefined,
    isPolled: () => false,
    newKey: () => `r-${number}-${++keys}`,
  });
  world.life = { process, provisioner, store };
  const loaded = provisioner.load();
  await quiet(world);
  await loaded;
  provisioner.start();
}

/** Time must not go on while the disk is at work. */
function counted(world: World, store: Store): Store {
  return new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== "function" || name === "onEvent") return value;
      return async (...args: unknown[]) => {
        world.inFlight++;
        try {
          return await value.apply(target, args);
        } finally {
          world.inFlight--;
        }
      };
    },
  });
}

function demandOf(world: World): Demand {
  return {
    pending: () => world.waiting,
    find: (id) => world.waiting.find((job) => job.id === id),
    onChange(listener) {
      world.listeners.add(listener);
      return () => world.listeners.delete(listener);
    },
  };
}

function want(world: World, ...jobs: [id: number, tag: string][]): void {
  const about = { project: "group/p", projectId: 7, name: "job", createdAt: 0, webUrl: "" };
  world.waiting = jobs.map(([id, tag]) => {
    const routing = routeJob([tag], tagRules());
    if (routing.kind !== "route") throw new Error(`${tag} names no machine`);
    return { id, ...about, route: routing.route };
  });
  for (const listener of world.listeners) listener();
}

async function quiet(world: World): Promise<void> {
  do {
    for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve));
    // Answers and work that lets others go first wait for turns of the event loop.
  } while (world.inFlight > 0 || process.getActiveResourcesInfo().includes("Immediate"));
}

/** Lets time pass; whoever was killed is started again a little later. */
async function passUntil(world: World, at: number): Promise<void> {
  const { clock } = world;
  for (;;) {
    await quiet(world);
    checkDoubles(world);
    const restartAt = world.diedAt === undefined ? Number.POSITIVE_INFINITY : world.diedAt + RESTART_MS;
    const next = Math.min(clock.nextWake() ?? Number.POSITIVE_INFINITY, restartAt, at);
    await clock.advance(Math.max(0, next - clock.now()));
    if (next === restartAt) await restart(world);
    else if (next === at) return await quiet(world);
  }
}

/** As above, and until whoever was started last has had time to put things right. */
async function passAndRecover(world: World, at: number): Promise<void> {
  await passUntil(world, at);
  for (;;) {
    const { bornAt, diedAt } = world;
    const wellAt = diedAt === undefined ? bornAt + RECOVERY_MS : diedAt + RESTART_MS;
    if (wellAt <= world.clock.now() && diedAt === undefined) return;
    await passUntil(world, wellAt);
  }
}

async function restart(world: World): Promise<void> {
  world.diedAt = undefined;
  world.listeners.clear();
  await world.life?.store.close();
  await begin(world);
}

/** Jobs with the same tags are asked for through one runner; with a runner per job, through one each. */
function checkDoubles({ life, waiting, doubled, story }: World): void {
  if (!life?.process.isAlive()) return;
  for (const tag of [small, large]) {
    const open = [...life.provisioner.pools().keys()].filter(
      (pool) =>
        (life.provisioner.wanted(pool) ?? 0) > 0 &&
        life.provisioner.pools().get(pool)?.size.cpus === (tag === small ? 1 : 2),
    );
    const jobs = waiting.filter(({ route }) => route.tags.includes(tag)).length;
    if (open.length > (story.perJob ? jobs : 1)) doubled.push(`${open.length} runners for ${tag}: ${open}`);
  }
}

/** Our runners in GitLab with their tags, and those that are in use here with the right token. */
async function bothSides({ gitlab, life }: World) {
  const ours = [...gitlab.runners.values()].filter(({ description }) => description.includes("[fr:test/"));
  const rows = (await life?.store.runners()) ?? [];
  const usable = [];
  for (const { key, gitlabId, state, tags } of rows) {
    const token = (await life?.store.runnerToken(key))?.reveal();
    const fits = state === "active" && gitlab.runners.get(gitlabId ?? 0)?.token === token;
    usable.push(fits ? tags.join() : `${key} is ${state}`);
  }
  return { inGitLab: ours.map(({ tags }) => tags.join()).toSorted(), usable: usable.toSorted() };
}

/** Two runners are made, one of them has a job, is not wanted any more, and is deleted after it; the other's token is renewed. */
async function live(story: Story, prepare: (world: World) => void = () => {}): Promise<World> {
  const world = await aWorld(story);
  const { gitlab, clock } = world;
  const from = clock.now();
  const foreign = { paused: false, online: true, tags: [small], token: "glrt-other", tokenExpiresAt: from };
  gitlab.runners.set(900, {
    id: 900,
    description: `FireRunner on host: ${small} [fr:other/r-1]`,
    ...foreign,
  });
  prepare(world);
  try {
    want(world, [1, small], [2, large]);
    await begin(world);
    await passUntil(world, from + MINUTE);
    const first = [...gitlab.runners.values()].find(({ id, tags }) => id !== 900 && tags.includes(small));
    if (first) gitlab.busy.add(first.id);
    await passUntil(world, from + 90 * SECOND);
    want(world, [2, large]);
    await passUntil(world, from + 3 * MINUTE);
    gitlab.busy.clear();
    await passAndRecover(world, from + 16 * MINUTE);
    expect(await bothSides(world)).toEqual({ inGitLab: [large], usable: [large] });
    want(world);
    await passAndRecover(world, clock.now() + 3 * MINUTE);
    expect(await bothSides(world)).toEqual({ inGitLab: [], usable: [] });
    expect([...gitlab.runners.keys()]).toEqual([900]);
    expect(gitlab.violations).toEqual([]);
    expect(world.doubled).toEqual([]);
    return world;
  } finally {
    world.life?.process.kill();
    await quiet(world);
    await world.life?.store.close();
    await rm(world.root, { recursive: true, force: true });
  }
}

const kinds = [false, true].flatMap((perJob) => [false, true].map((losesStore) => ({ perJob, losesStore })));

describe.each(kinds)("runner per job: $perJob, store lost with its process: $losesStore", (kind) => {
  test("killed once at each place, it ends with exactly the wanted runners in GitLab", async () => {
    let place = 0;
    for (let lives = 2; lives === 2; ) {
      place++;
      lives = await live({ ...kind, kills: [place] })
        .then((world) => world.lives)
        .catch((cause: unknown) => {
          throw new Error(`killed at place ${place}`, { cause });
        });
    }

    expect(place).toBeGreaterThan(50);
  });

  test("killed again and again, it ends so too", async () => {
    const kills = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 2, maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(kills, async (places) => void (await live({ ...kind, kills: places }))),
      { numRuns: 15 },
    );
  });

  test.each([5, 25, 90, 200])(
    "GitLab makes the runner only %d s after the request, when nobody waits any more",
    async (lateS) => {
      for (const request of [1, 2]) {
        const world = await live({ ...kind, kills: [] }, (each) =>
          killAtRequest(each, request, lateS * SECOND),
        );
        expect(world.lives).toBe(2);
      }
    },
  );
});

/** The request for the `number`th runner is all that gets out; GitLab acts on it a good while later. */
function killAtRequest(world: World, number: number, lateMs: number): void {
  const { gitlab } = world;
  let requests = 0;
  gitlab.onCreateRequest = () => {
    requests++;
    gitlab.creationMs = requests === number ? lateMs : 0;
    if (requests === number) world.life?.process.kill();
  };
}
