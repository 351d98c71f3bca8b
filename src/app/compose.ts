/**
 * The wiring, and nothing else: which part is made of which, in the order of the picture in ARCHITECTURE.md from the middle outwards.
 * What is read while parts are being built is there before; news that goes against this order is subscribed to when both ends exist.
 */
import { join } from "node:path";
import { every, systemClock } from "../base/clock.ts";
import type { DiskLedger } from "../base/disk-ledger.ts";
import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { HOUR_MS, MIB_BYTES } from "../base/units.ts";
import { type Claimer, createClaimer } from "../claiming/claimer.ts";
import { createSlots, type Slots } from "../claiming/slots.ts";
import type { Config } from "../config/load.ts";
import { createWarmImages, type WarmImages } from "../containers/warm.ts";
import { announcedInfo } from "../scheduler/health.ts";
import { createScheduler, type Scheduler } from "../scheduler/scheduler.ts";
import type { Store } from "../store/store.ts";
import type { Cleanup } from "./cleanups.ts";
import { type Core, type CoreOptions, openCore } from "./core.ts";
import { warnOfIgnoredImages } from "./job-containers.ts";
import { configuredPools, createPoolSources, type PoolSources } from "./pool-sources.ts";
import { createPoolTokens, type PoolTokens } from "./pool-tokens.ts";
import { watchForStandIns } from "./stand-ins.ts";
import { buildTaggedJobs, type TaggedJobs } from "./tagged-jobs.ts";
import { openTraces, type Traces, traceRuleOf } from "./traces.ts";

/** A runner that has something to send does so every `relay.traceInterval`; who has missed two of them is silent. */
const SILENT_AFTER_INTERVALS = 3;

/** The parts of the program, built and joined. */
export interface Components extends Core {
  /** What is to be said of images that hold the stand-in runner. */
  readonly standIns: () => string[];
  readonly warm: WarmImages;
  readonly scheduler: Scheduler;
  readonly claimer: Claimer;
  /** Of the configured pools. */
  readonly tokens: PoolTokens;
  /** Undefined when the configuration has no `webhook`. */
  readonly tagged: TaggedJobs | undefined;
  readonly traces: Traces;
  /** Pools of the configuration and those of jobs by tag. */
  readonly pools: PoolSources["pools"];
}

export type ComposeOptions = Omit<CoreOptions, "pools">;

/** What everything after the core is built on. */
interface Base extends Pick<ComposeOptions, "config" | "log" | "version"> {
  readonly core: Core;
  readonly sources: PoolSources;
}

/** Builds every part once and joins them; nothing works before it is started. What was taken is added to `cleanups`. */
export async function composeApp(options: ComposeOptions, cleanups: Cleanup[]): Promise<Components> {
  const { config, log, version, overrides, metrics } = options;
  const sources = createPoolSources();
  sources.add(configuredPools(config));
  const { pools } = sources;

  const opened = await openCore({ config, pools, log, version, overrides, metrics }, cleanups);
  cleanups.push(pruneHistory(opened.store, () => config().history.keep, log));
  const traces = await openTraces({ config, store: opened.store, version, log });
  cleanups.push(() => traces.stop());
  const { images, standIns } = watchForStandIns(opened.images, log);
  const core = { ...opened, images };
  // Hosts of the configuration are real ones as well.
  if (!overrides) await core.hostRegistry.apply(config().hosts);

  const base = { config, log, version, core, sources };
  const tokens = watchTokens(base);
  cleanups.push(() => tokens.stop());
  const scheduler = buildScheduler(base);
  const slots = createSlots({
    store: core.store,
    pools,
    hosts: scheduler.capacities,
    placement: config().vm.placement,
  });
  cleanups.push(() => slots.close());
  const claimer = buildClaimer(base, { scheduler, slots, tokens });
  cleanups.push(scheduler.onHealthChange(() => claimer.wake()));
  const tagged = await openTaggedJobs(base, { scheduler, slots, claimer });
  if (tagged) {
    sources.add(tagged.source);
    cleanups.push(tagged.provisioner.onPoolsChange(() => claimer.poolsChanged()));
    cleanups.push(tagged.watcher.demand.onChange(() => claimer.wake()));
  }
  const warm = createWarmImages({
    names: () => config().images.warm,
    images: core.containers.cache,
    clock: systemClock,
    log: log.child({ component: "images" }),
  });
  cleanups.push(() => warm.stop());
  void warnOfIgnoredImages(kindsIn(sources), images, log);
  return { ...core, standIns, pools, tokens, scheduler, claimer, tagged, warm, traces };
}

/** What is told of machines is told once for all sets of tags. */
function kindsIn({ pools, bases }: PoolSources) {
  const configured = [...pools().values()].filter(({ origin }) => origin.kind === "configured");
  return [...configured, ...[...bases()].map(([name, base]) => ({ ...base, name }))];
}

function buildScheduler({ core, sources, config, log }: Base): Scheduler {
  const { state, vm, shutdown } = config();
  return createScheduler({
    store: core.store,
    fleet: core.fleet,
    images: core.images,
    jobImages: core.containers,
    api: core.api,
    relay: core.relay,
    pools: sources.pools,
    bases: sources.bases,
    placement: vm.placement,
    disk: {
      freeBytes: () => freeBytes(state, core.caches, vm.minFreeDisk * MIB_BYTES),
      minFreeBytes: vm.minFreeDisk * MIB_BYTES,
      roomForImages: core.imageCache.roomProblem,
    },
    config: patientOf(config()),
    shutdown,
    clock: systemClock,
    random: Math.random,
    log: log.child({ component: "scheduler" }),
  });
}

interface Claiming {
  readonly scheduler: Scheduler;
  readonly slots: Slots;
}

function buildClaimer(
  { core, sources, config, log }: Base,
  { scheduler, slots, tokens }: Claiming & { readonly tokens: PoolTokens },
): Claimer {
  return createClaimer({
    api: core.api,
    store: core.store,
    pools: sources.pools,
    slots,
    runnerInfo: scheduler.runnerInfo,
    canClaim: scheduler.canClaim,
    wanted: sources.wanted,
    assign: sources.assign,
    trace: traceRuleOf(core.store, config),
    onRefused(pool) {
      tokens.requestRecheck(pool);
      sources.requestRecheck(pool);
    },
    config: config().claiming,
    clock: systemClock,
    random: Math.random,
    log: log.child({ component: "claiming" }),
  });
}

/** Of the configured pools; runners of jobs by tag are verified by their provisioner. */
function watchTokens({ core: { api, images }, config, log }: Base): PoolTokens {
  return createPoolTokens({
    api,
    pools: () => config().pools,
    async runnerInfo(pool) {
      const image = await images.resolve(pool.image).catch(() => undefined);
      return image && announcedInfo(pool, image);
    },
    clock: systemClock,
    log,
  });
}

async function openTaggedJobs(
  { core, config, version, log }: Base,
  { scheduler, slots, claimer }: Claiming & { readonly claimer: Claimer },
): Promise<TaggedJobs | undefined> {
  const { webhook } = config();
  if (!webhook) return undefined;
  return await buildTaggedJobs({
    config,
    webhook,
    http: core.http,
    api: core.api,
    store: core.store,
    fleet: core.fleet,
    version,
    runnerInfo: scheduler.runnerInfo,
    isPolled: claimer.isPolled,
    onJobEnded: scheduler.recheck,
    neverHeld: slots.neverHeld,
    trace: traceRuleOf(core.store, config),
    log,
  });
}

/** GitLab is not asked about a job whose runner speaks. */
function patientOf({ scheduler, relay }: Config): Config["scheduler"] {
  const silentAfterMs = SILENT_AFTER_INTERVALS * relay.traceInterval;
  return { ...scheduler, standingInterval: Math.max(scheduler.standingInterval, silentAfterMs) };
}

/** Forgets old history now and then. Returns the way to stop. */
function pruneHistory(store: Store, keepMs: () => number, log: Log): Cleanup {
  const once = () =>
    store.prune(systemClock.now() - keepMs()).catch((error) => {
      log.warn({ problem: describeError(error) }, "old history could not be deleted");
    });
  return every(systemClock, HOUR_MS, once);
}

/** Of the volume with the least: the store's, or the machines' where they have one of their own. Caches give way first. */
async function freeBytes(state: string, caches: DiskLedger, wantedBytes: number): Promise<number> {
  const of = (directory: string) => caches.makeFree(directory, wantedBytes);
  const ofMachines = of(join(state, "machines")).catch(() => Number.POSITIVE_INFINITY);
  return Math.min(await of(state), await ofMachines);
}
