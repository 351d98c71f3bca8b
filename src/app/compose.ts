/** The parts list: the only place where rooms meet. It reads like the picture in ARCHITECTURE.md, from the store outwards. */

import { createHash } from "node:crypto";
import { statfs } from "node:fs/promises";
import { join } from "node:path";
import { every, systemClock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { HOUR_MS, MIB_BYTES } from "../base/units.ts";
import { type Claimer, createClaimer } from "../claiming/claimer.ts";
import { createSlots } from "../claiming/slots.ts";
import type { Config } from "../config/load.ts";
import { RELAY_IN_GUEST } from "../domain/drivers.ts";
import type { Pool } from "../domain/pool.ts";
import type { GitLabHttp } from "../gitlab/http.ts";
import { connectGitLab } from "../gitlab/http.ts";
import { createReach, type Reach, watchReach } from "../gitlab/reach.ts";
import type { RunnerApi } from "../gitlab/runner-api.ts";
import { createRunnerApi } from "../gitlab/runner-client.ts";
import { renderBootData } from "../guest/boot.ts";
import { openImages } from "../image/open-images.ts";
import { type RelaySettings, runnerLogLimitKib } from "../relay/config.ts";
import { createRelay, type Relay } from "../relay/relay.ts";
import type { ImageSource } from "../scheduler/ports.ts";
import { createScheduler, type Scheduler } from "../scheduler/scheduler.ts";
import { createStore } from "../store/create-store.ts";
import { createReserve } from "../store/reserve.ts";
import type { Store } from "../store/store.ts";
import { logEvents } from "../telemetry/events.ts";
import type { Fleet } from "../vm/driver.ts";
import type { ChangingFleet } from "../vm/fleet.ts";
import type { FlintlockHost } from "../vm/flintlock/host.ts";
import { buildFleet, type Cleanup } from "./fleet.ts";
import { createGuestAuthorities, type GuestAuthorities } from "./guest-authorities.ts";
import type { HostRegistry } from "./host-registry.ts";
import { createPoolTokens, type PoolTokens } from "./pool-tokens.ts";
import { watchForStandIns } from "./stand-ins.ts";
import { buildTaggedJobs, type TaggedJobs } from "./tagged-jobs.ts";

/** Machines listen nowhere; this is where they find the relay (see vm/qemu). */
const GUEST_PROXY = `http://${RELAY_IN_GUEST}:80`;
/** A runner that has something to send does so every `relay.traceInterval`; who has missed two of them is silent. */
const SILENT_AFTER_INTERVALS = 3;
/** Kept for the store: four times the size at which SQLite's write-ahead log begins anew. */
const RESERVE_BYTES = 16 * MIB_BYTES;

/** The rooms, built and joined. */
export interface Components {
  readonly store: Store;
  readonly http: GitLabHttp;
  /** Whether GitLab answers, as everything that asks it hears. */
  readonly reach: Reach;
  readonly api: RunnerApi;
  readonly images: ImageSource;
  /** What is to be said of images that hold the stand-in runner. */
  readonly standIns: () => string[];
  readonly fleet: Fleet;
  /** Undefined where something else takes the place of real hosts. */
  readonly hostKeeper: HostRegistry<FlintlockHost> | undefined;
  readonly relay: Relay;
  readonly scheduler: Scheduler;
  readonly claimer: Claimer;
  /** Of the configured pools. */
  readonly tokens: PoolTokens;
  /** Undefined when the configuration has no `webhook`. */
  readonly tagged: TaggedJobs | undefined;
  /** Pools of the configuration and those of jobs by tag. */
  readonly pools: () => ReadonlyMap<string, Pool>;
}

export interface BuildOptions {
  /** The configuration in force; a reload changes its pools. */
  readonly config: () => Config;
  readonly log: Log;
  readonly version: string;
  /** What takes the place of this computer's drivers and images, where no real machines are wanted. */
  readonly instead?: { readonly fleet: ChangingFleet; readonly images: ImageSource };
}

/** Builds every room once and joins them; nothing works before it is started. What was taken is added to `cleanups`. */
export async function composeApp(
  { config, log, version, instead }: BuildOptions,
  cleanups: Cleanup[],
): Promise<Components> {
  const clock = systemClock;
  const { state, vm, relay: relayConfig, shutdown, claiming, webhook } = config();
  let tagged: TaggedJobs | undefined;
  const pools = joinPools(
    () => config().pools,
    () => tagged?.keeper.pools(),
  );

  const store = await openStore(state, log, cleanups);
  cleanups.push(prune(store, () => config().history.keep, log));
  const { http, reach } = await openGitLab(config(), log, cleanups);
  const api = createRunnerApi({ http, clock, version, systemId: systemIdOf(store.installationId) });
  const { images, standIns } = watchForStandIns(instead?.images ?? openImages(config), log);
  const kept = instead ?? (await buildFleet({ config: config(), store, log }, cleanups));
  const { fleet } = kept;
  if (instead) cleanups.push(() => fleet.close());

  const relay = createRelay({
    ...{ store, http, api, pools, clock, proxies: config().proxy },
    bootData: bootDataFrom({ store, pools, relay: relayConfig }, createGuestAuthorities(config(), log)),
    log: log.child({ component: "relay" }),
    config: relayConfig,
    directory: join(state, "relay"),
  });
  cleanups.push(() => relay.stop());
  await relay.start();

  const scheduler = createScheduler({
    ...{ store, fleet, images, api, pools, clock, shutdown, door: relay },
    placement: vm.placement,
    random: Math.random,
    log: log.child({ component: "scheduler" }),
    config: patientOf(config()),
    onHealthChange: () => claimer.wake(),
    bases: () => tagged?.bases() ?? new Map(),
    disk: { freeBytes: () => freeBytes(state), minFreeBytes: vm.minFreeDisk * MIB_BYTES },
  });
  const tokens = watchTokens({ api, images, config, log }, cleanups);
  const slots = createSlots({ store, pools, hosts: scheduler.rooms, placement: vm.placement });
  cleanups.push(() => slots.close());
  const claimer: Claimer = createClaimer({
    ...{ api, store, pools, slots, clock },
    random: Math.random,
    log: log.child({ component: "claiming" }),
    config: claiming,
    runnerInfo: scheduler.runnerInfo,
    canClaim: scheduler.canClaim,
    wanted: (pool) => tagged?.keeper.wanted(pool),
    assign: (jobId, pool) => tagged?.keeper.assign(jobId, pool) ?? pool,
    onRefused: (pool) => void [tagged?.keeper, tokens].map((each) => each?.requestRecheck(pool)),
  });
  if (webhook) {
    tagged = await buildTaggedJobs({
      ...{ config, webhook, http, api, store, fleet, version, log },
      runnerInfo: scheduler.runnerInfo,
      isPolled: claimer.isPolled,
      onJobEnded: scheduler.doubt,
      neverHeld: slots.neverHeld,
    });
    cleanups.push(joinTagged(tagged, claimer));
  }
  const hostKeeper = "keeper" in kept ? kept.keeper : undefined;
  const first = { store, http, reach, api, images, standIns, fleet };
  return { ...first, hostKeeper, tokens, relay, scheduler, claimer, tagged, pools };
}

/** Of the configured pools; runners of jobs by tag are verified by their keeper. */
function watchTokens(
  { api, images, config, log }: Pick<Components, "api" | "images"> & Pick<BuildOptions, "config" | "log">,
  cleanups: Cleanup[],
): PoolTokens {
  const tokens = createPoolTokens({
    ...{ api, log, clock: systemClock },
    pools: () => config().pools,
    runnerInfo: async (image) => (await images.resolve(image).catch(() => undefined))?.runnerInfo,
  });
  cleanups.push(() => tokens.stop());
  return tokens;
}

type Pools = ReadonlyMap<string, Pool>;

/**
 * Jobs of both ways in are claimed and run in the same way: they differ in where their pools come from. Every poll and every request
 * of a guest asks for the pools, so they are put together again only when one of the two has changed.
 */
function joinPools(configured: () => Pools, ofTags: () => Pools | undefined): () => Pools {
  let [first, second]: (Pools | undefined)[] = [];
  let joined: Pools = new Map();
  return () => {
    if (first === configured() && second === ofTags()) return joined;
    [first, second] = [configured(), ofTags()];
    joined = second ? new Map([...first, ...second]) : first;
    return joined;
  };
}

/** The claimer hears of new pools and of new jobs. Returns the way to stop. */
function joinTagged({ keeper, watcher }: TaggedJobs, claimer: Claimer): Cleanup {
  const stops = [
    keeper.onPoolsChange(() => claimer.poolsChanged()),
    watcher.demand.onChange(() => claimer.wake()),
  ];
  return () => {
    for (const stop of stops) stop();
  };
}

/** One client for all, and what is heard through it. */
async function openGitLab(config: Config, log: Log, cleanups: Cleanup[]) {
  const reach = createReach({ clock: systemClock, log: log.child({ component: "gitlab" }) });
  const http = watchReach(await connectGitLab(config, log), reach);
  cleanups.push(() => http.close());
  return { http, reach };
}

/** GitLab is not asked about a job whose runner speaks. */
function patientOf({ scheduler, relay }: Config): Config["scheduler"] {
  const silentAfterMs = SILENT_AFTER_INTERVALS * relay.traceInterval;
  return { ...scheduler, standingInterval: Math.max(scheduler.standingInterval, silentAfterMs) };
}

async function openStore(state: string, log: Log, cleanups: Cleanup[]): Promise<Store> {
  const store = await createStore({
    database: join(state, "firerunner.db"),
    keyFile: join(state, "key"),
    clock: systemClock,
    log: log.child({ component: "store" }),
    reserve: createReserve(join(state, "reserve"), RESERVE_BYTES, systemClock),
  });
  cleanups.push(() => store.close());
  const history = (jobId: number) => store.events({ jobId });
  cleanups.push(logEvents({ onEvent: store.onEvent, history, log }));
  return store;
}

/** Forgets old history now and then. Returns the way to stop. */
function prune(store: Store, keepMs: () => number, log: Log): Cleanup {
  const once = () =>
    store.prune(systemClock.now() - keepMs()).catch((error) => {
      log.warn({ problem: describeError(error) }, "old history could not be deleted");
    });
  return every(systemClock, HOUR_MS, once);
}

/** GitLab tells managers that share a runner token apart by this (`s_` and 12 hex digits). */
function systemIdOf(installationId: string): string {
  return `s_${createHash("sha256").update(installationId).digest("hex").slice(0, 12)}`;
}

function bootDataFrom(
  { store, pools, relay }: { store: Store; pools: () => Pools; relay: RelaySettings },
  authorities: GuestAuthorities,
) {
  return async (machineId: string): Promise<string | undefined> => {
    const machine = await store.machine(machineId);
    if (!machine || machine.state === "stopping" || machine.state === "gone") return undefined;
    const mode = pools().get(machine.pool)?.egress.mode ?? "none";
    return renderBootData({
      machineId,
      token: store.machineToken(machineId),
      nowMs: systemClock.now(),
      executor: "shell",
      proxy: mode === "none" ? undefined : GUEST_PROXY,
      logLimitKib: runnerLogLimitKib(relay),
      authorities: await authorities.pem(),
    });
  };
}

/** Of the volume with the least: the store's, or the machines' where they have one of their own. */
async function freeBytes(state: string): Promise<number> {
  const of = async (directory: string) => {
    const { bavail, bsize } = await statfs(directory);
    return bavail * bsize;
  };
  const ofMachines = of(join(state, "machines")).catch(() => Number.POSITIVE_INFINITY);
  return Math.min(await of(state), await ofMachines);
}
