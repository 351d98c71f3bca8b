/**
 * What has to be open before any job is taken, in the order of the picture in ARCHITECTURE.md from the middle outwards: the store, GitLab's
 * HTTP, images, this computer's drivers, and the relay, which listens when this returns. The program (compose.ts) builds the rest on
 * it; the trial of a host without a FireRunner that runs (host-trials.ts) needs nothing more.
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { systemClock } from "../base/clock.ts";
import { createDiskLedger, type DiskCache, type DiskLedger } from "../base/disk-ledger.ts";
import type { Log } from "../base/log.ts";
import { MIB_BYTES } from "../base/units.ts";
import { cacheDirectory } from "../cache/config.ts";
import { LocalStorage } from "../cache/local-storage.ts";
import { openCacheStorage } from "../cache/open-storage.ts";
import type { Config } from "../config/load.ts";
import { containersDirectory, imageCacheOptions } from "../containers/config.ts";
import { type ImageDiskCache, imageDiskCache } from "../containers/disk-cache.ts";
import { openJobImages } from "../containers/job-images.ts";
import type { Pool } from "../domain/pool.ts";
import { connectGitLab, type GitLabHttp } from "../gitlab/http.ts";
import { createReach, type Reach, watchReach } from "../gitlab/reach.ts";
import { watchRequests } from "../gitlab/requests.ts";
import type { RunnerApi } from "../gitlab/runner-api.ts";
import { createRunnerApi } from "../gitlab/runner-client.ts";
import { openImages } from "../image/open-images.ts";
import type { RelayCache } from "../relay/job/cache.ts";
import { createRelay, type Relay } from "../relay/relay.ts";
import type { ImageSource } from "../scheduler/ports.ts";
import { createStore } from "../store/create-store.ts";
import type { Store } from "../store/store.ts";
import { createReserve } from "../store/writer.ts";
import { logEvents } from "../telemetry/events.ts";
import { kindsOfRecord } from "../telemetry/job-record.ts";
import type { Metrics } from "../telemetry/metrics/metrics.ts";
import { createLocalFleet } from "../vm/drivers.ts";
import type { ChangingFleet } from "../vm/fleet.ts";
import type { FlintlockHost } from "../vm/flintlock/config.ts";
import type { Cleanup } from "./cleanups.ts";
import { bootDataFrom, createGuestAuthorities } from "./guest-boot.ts";
import { type HostRegistry, openHostRegistry } from "./hosts.ts";
import { createJobContainers, type JobContainers } from "./job-containers.ts";
import { traceparentFor } from "./traces.ts";

/** Kept for the store: four times the size at which SQLite's write-ahead log begins anew. */
const RESERVE_BYTES = 16 * MIB_BYTES;

export interface Core {
  readonly store: Store;
  readonly http: GitLabHttp;
  /** Whether GitLab answers, as everything that asks it hears. */
  readonly reach: Reach;
  readonly api: RunnerApi;
  readonly images: ImageSource;
  readonly containers: JobContainers;
  readonly imageCache: ImageDiskCache;
  /** What gives way to machines' disks. */
  readonly caches: DiskLedger;
  /** Caches of jobs; undefined where none are kept on this computer. */
  readonly jobCache: DiskCache | undefined;
  readonly fleet: ChangingFleet;
  /** Has no host yet: the drivers of hosts begin to ask them as soon as they are in the fleet. */
  readonly hostRegistry: HostRegistry<FlintlockHost>;
  readonly relay: Relay;
}

export interface CoreOptions {
  /** The configuration in force; a reload changes it. */
  readonly config: () => Config;
  readonly pools: () => ReadonlyMap<string, Pool>;
  readonly log: Log;
  readonly version: string;
  readonly overrides: Overrides | undefined;
  /** What is counted; undefined where nobody asks for it. */
  readonly metrics?: Metrics | undefined;
}

/** What takes the place of this computer's drivers and images, where no real machines are wanted. */
interface Overrides {
  readonly fleet: ChangingFleet;
  readonly images: ImageSource;
}

/** What was taken is added to `cleanups`, also when it throws: StoreError, GitLabError, RelayError. */
export async function openCore(options: CoreOptions, cleanups: Cleanup[]): Promise<Core> {
  const { config, pools, log, version, overrides, metrics } = options;
  const { state, proxy, relay: relayConfig } = config();
  const store = await openStore({ state, log, metrics }, cleanups);
  const { http, reach } = await openGitLab(config(), { log, metrics }, cleanups);
  const api = createRunnerApi({
    http,
    clock: systemClock,
    version,
    systemId: systemIdOf(store.installationId),
  });
  const images = overrides?.images ?? openImages(config);
  const caches = createDiskLedger();
  const fleet = overrides?.fleet ?? createLocalFleet({ ...localDeps(config(), log), caches });
  cleanups.push(() => fleet.close());
  const hostRegistry = await openHostRegistry({ config: config(), fleet, store, log });
  cleanups.push(() => hostRegistry.close());
  const openJobImageCache = () => openJobImages({ ...imageCacheOptions(config()), clock: systemClock });
  const containers = createJobContainers({
    ...{ store, pools, images, clock: systemClock },
    openCache: openJobImageCache,
  });
  cleanups.push(() => containers.close());
  const imageCache = imageDiskCache(containersDirectory(config()), containers.cache);
  caches.add(imageCache);
  const cache = await openCache(config(), { images, onCache: metrics?.countCache }, cleanups);
  const kept = cache?.storage;
  const jobCache = kept instanceof LocalStorage ? jobDiskCache(cacheDirectory(config()), kept) : undefined;
  if (jobCache) caches.add(jobCache);
  const relay = createRelay({
    store,
    http,
    api,
    pools,
    cache,
    bootData: bootDataFrom({
      store,
      pools,
      relay: relayConfig,
      authorities: createGuestAuthorities(config(), log),
      containers,
      hasCaches: cache !== undefined,
    }),
    inContainers: async (machine) => (await containers.bootOf(machine)) !== undefined,
    pulledImages: containers.pulledBy,
    traceparentOf: traceparentFor(store, config),
    clock: systemClock,
    log: log.child({ component: "relay" }),
    config: relayConfig,
    directory: join(state, "relay"),
    proxies: proxy,
    mirror: containers.mirror,
  });
  cleanups.push(() => relay.stop());
  await relay.start();
  return {
    ...{ store, http, reach, api, images, containers, imageCache, caches, jobCache },
    ...{ fleet, hostRegistry, relay },
  };
}

/** What jobs name under `cache:`, where it lies on this computer. */
function jobDiskCache(directory: string, storage: LocalStorage): DiskCache {
  return {
    ...{ name: "caches of jobs", directory },
    use: async () => ({ usedBytes: storage.usedBytes(), evictableBytes: storage.usedBytes() }),
    evict: (bytes) => storage.free(bytes),
  };
}

type Watching = Pick<CoreOptions, "log" | "metrics">;

async function openStore(
  { state, log, metrics }: Watching & { readonly state: string },
  cleanups: Cleanup[],
): Promise<Store> {
  const store = await createStore({
    database: join(state, "firerunner.db"),
    keyFile: join(state, "key"),
    clock: systemClock,
    log: log.child({ component: "store" }),
    reserve: createReserve(join(state, "reserve"), RESERVE_BYTES, systemClock),
    onWriteError: metrics?.countWriteError,
  });
  cleanups.push(() => store.close());
  await metrics?.watch(store);
  const history = (jobId: number) => store.events({ jobId, kinds: kindsOfRecord });
  const traceIdOf = async (jobId: number) => (await store.trace(jobId))?.traceId;
  const onRecord = metrics?.takeRecord;
  cleanups.push(logEvents({ onEvent: store.onEvent, history, traceIdOf, log, onRecord }));
  return store;
}

/** One client for all, and what is heard through it. */
async function openGitLab(config: Config, { log, metrics }: Watching, cleanups: Cleanup[]) {
  const reach = createReach({ clock: systemClock, log: log.child({ component: "gitlab" }) });
  const connected = watchReach(await connectGitLab(config, log), reach);
  const http = metrics ? watchRequests(connected, metrics.countRequest) : connected;
  cleanups.push(() => http.close());
  return { http, reach };
}

/** Caches of jobs, where they are kept. */
async function openCache(
  { cache, cacheAccess: access, state, proxy: proxies, gitlab }: Config,
  { images, onCache }: { readonly images: ImageSource } & Pick<RelayCache, "onCache">,
  cleanups: Cleanup[],
): Promise<RelayCache | undefined> {
  if (!cache.enabled) return undefined;
  const where = { cache, state, access, proxies, gitlabUrl: gitlab.url };
  const storage = await openCacheStorage({ ...where, clock: systemClock });
  cleanups.push(() => storage.close());
  return {
    storage,
    ...{ settings: cache, onCache },
    async isKnownTo(digest) {
      const image = await images.resolve(digest).catch(() => undefined);
      return image !== undefined && (image.abilities?.includes("cache") ?? true);
    },
  };
}

function localDeps({ state, vm }: Config, log: Log) {
  return {
    stateDirectory: state,
    settings: vm,
    clock: systemClock,
    log: log.child({ component: "vm" }),
  };
}

/** GitLab tells managers that share a runner token apart by this (`s_` and 12 hex digits). */
function systemIdOf(installationId: string): string {
  return `s_${createHash("sha256").update(installationId).digest("hex").slice(0, 12)}`;
}
