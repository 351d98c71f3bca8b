/** What the metrics are made of and read, where the configuration asks for them; the wiring, and nothing else. */
import { statfs } from "node:fs/promises";
import { systemClock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Config } from "../config/load.ts";
import { type MetricsServer, openMetricsServer } from "../server/metrics/metrics-server.ts";
import type { PublicServer } from "../server/public/public-server.ts";
import type { Metrics } from "../telemetry/metrics/metrics.ts";
import type { MetricsReads, WebhookFigures } from "../telemetry/metrics/ports.ts";
import { type PendingFigureReads, readFigures } from "../views/figures.ts";
import type { DaemonReads } from "../views/ports.ts";
import type { Cleanup } from "./cleanups.ts";
import type { Components } from "./compose.ts";
import type { TaggedJobs } from "./tagged-jobs.ts";

/** Undefined where nobody could ask for them: nothing is counted then, and what counts is not even loaded. */
export async function metricsOf(
  { metrics }: Config,
  log: Log,
  cleanups: Cleanup[],
): Promise<Metrics | undefined> {
  if (metrics.listen.length === 0) return undefined;
  const { createMetrics } = await import("../telemetry/metrics/metrics.ts");
  const made = createMetrics({
    withCompatible: metrics.compatibility !== undefined,
    clock: systemClock,
    log: log.child({ component: "metrics" }),
  });
  cleanups.push(() => made.close());
  return made;
}

export interface MetricsServerOptions {
  readonly metrics: Metrics;
  readonly components: Components;
  readonly config: () => Config;
  readonly reads: DaemonReads;
  readonly publicServer: PublicServer | undefined;
  readonly log: Log;
}

export async function serveMetrics(options: MetricsServerOptions): Promise<MetricsServer> {
  const { metrics, config, log } = options;
  const server = await openMetricsServer({
    config: config().metrics,
    scrape: metrics.scrape,
    clock: systemClock,
    log: log.child({ component: "metrics" }),
  });
  metrics.serve(readsOf(options, server));
  return server;
}

function readsOf(
  { components, config, reads, publicServer }: MetricsServerOptions,
  server: MetricsServer,
): MetricsReads {
  const { store, tagged, imageCache, jobCache } = components;
  const pendingJobs = tagged && pendingReads(tagged, config);
  const unfinishedJobs = () => store.jobs({ unfinished: true });
  const driversInUse = () => {
    const pools = [...components.pools().values(), ...(tagged?.source.bases().values() ?? [])];
    return new Set(pools.map(({ driver }) => driver));
  };
  return {
    version: reads.facts().version,
    figures: async () => await readFigures({ ...reads, unfinishedJobs, driversInUse, pendingJobs }),
    machines: () => store.machines({ live: true }),
    drivers: driversInUse,
    configuredPools: () => config().pools.keys(),
    webhooks: async () => tagged && (await webhookFigures(tagged, publicServer)),
    relay: components.relay.load,
    caches: async () => ({ images: await imageCache.use(), jobs: await jobCache?.use() }),
    async stateDisk() {
      const { bavail, blocks, bsize } = await statfs(config().state);
      return { freeBytes: bavail * bsize, sizeBytes: blocks * bsize };
    },
    certificates: () => ({
      http: publicServer?.certificateEndsAt(),
      metrics: server.certificateEndsAt(),
      relay: components.relay.certificateEndsAt(),
    }),
  };
}

function pendingReads({ watcher, provisioner }: TaggedJobs, config: () => Config): PendingFigureReads {
  return {
    pending: watcher.demand.pending,
    unservable: () => watcher.status().leftAlone,
    isPerJob: () => config().webhook?.runners.perJob ?? false,
    pools: provisioner.pools,
  };
}

async function webhookFigures(
  { rest, receiver, watcher, provisioner, hookHealth, tokenCheck }: TaggedJobs,
  publicServer: PublicServer | undefined,
): Promise<WebhookFigures> {
  const { duplicates, unreadable, lastAt } = receiver.status();
  const { projects, due, missedByHooks } = watcher.status();
  const counts = publicServer?.counts();
  const refused = Object.values(counts?.refused ?? {}).reduce((sum, count) => sum + count, 0);
  return {
    budget: rest.budget,
    tokenExpiresAt: tokenCheck.expiresAt(),
    deliveries: {
      taken: counts?.accepted ?? 0,
      duplicate: duplicates,
      unreadable,
      failed: counts?.failed ?? 0,
      refused,
    },
    lastDeliveryAt: lastAt,
    missed: missedByHooks,
    brokenHooks: hookHealth.status().hooks.filter(({ ok }) => !ok).length,
    runners: await provisioner.status(),
    projects: { watched: projects, due },
  };
}
