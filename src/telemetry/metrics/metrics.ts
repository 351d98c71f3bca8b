/**
 * The metrics of a running FireRunner: what is counted as it happens (events.ts) and what is read at each scrape (write-figures.ts, process.ts),
 * by the instruments of the table. One scrape at a time: who asks while one is made gets that one.
 */
import type { Clock } from "../../base/clock.ts";
import { atMost } from "../../base/deadline.ts";
import { describeError } from "../../base/errors.ts";
import { createSampledLog, type Log } from "../../base/log.ts";
import { SECOND_MS } from "../../base/units.ts";
import type { LifecycleEvent } from "../../domain/events.ts";
import type { JobRecord } from "../job-record.ts";
import {
  createEventCounts,
  type EventCounts,
  type LivingJob,
  type LivingMachine,
  showResults,
} from "./events.ts";
import { createInstruments, type Scraped, type Snapshot, type TextFormat } from "./instruments.ts";
import type { MetricsReads } from "./ports.ts";
import { watchLoop, writeComputer, writeProcess } from "./process.ts";
import {
  writeCaches,
  writeCertificates,
  writeCompatible,
  writeFigures,
  writeMachines,
  writeWebhooks,
} from "./write-figures.ts";

export interface MetricsOptions {
  /** Also the series of GitLab's own runner. */
  readonly withCompatible: boolean;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Metrics {
  /** Counts from the store's events from now on; jobs and machines that live already are known to it when this resolves. */
  watch(store: WatchedStore): Promise<void>;
  /** For `logEvents`. */
  readonly takeRecord: (record: JobRecord) => void;
  /** A request to GitLab was answered; `status` 0 when it was not. */
  readonly countRequest: (endpoint: string, status: number) => void;
  readonly countWriteError: () => void;
  readonly countCache: (operation: "fetch" | "store", result: "success" | "miss" | "failure") => void;
  /** From when on a scrape reads the running program; before, it has what was counted. */
  serve(reads: MetricsReads): void;
  scrape(format: TextFormat): Promise<Scraped>;
  close(): void;
}

/** What of the store is read once, and listened to. */
interface WatchedStore {
  jobs(filter: { unfinished: true }): Promise<readonly LivingJob[]>;
  machines(filter: { live: true }): Promise<readonly (Omit<LivingMachine, "cpus" | "memoryMib"> & HasSize)[]>;
  onEvent(listener: (event: LifecycleEvent) => void): () => void;
}

interface HasSize {
  readonly size: { readonly cpus: number; readonly memoryMib: number };
}

/** A source that says nothing for so long is left out of the scrape: a Prometheus gives up after ten seconds. */
const PATIENCE_MS = 4_000;

export function createMetrics({ withCompatible, clock, log }: MetricsOptions): Metrics {
  const instruments = createInstruments({ withCompatible });
  const loop = watchLoop(clock);
  const startedAt = clock.now() - process.uptime() * SECOND_MS;
  const sources = createSources({ clock, log });
  let counts: EventCounts | undefined;
  let reads: MetricsReads | undefined;
  let stop = () => {};
  /** By format: the scrape that is being made. */
  const underWay = new Map<TextFormat, Promise<Scraped>>();
  let previous: Promise<unknown> = Promise.resolve();

  async function scrapeAlone(format: TextFormat): Promise<Scraped> {
    const snapshot = instruments.snapshot();
    snapshot.set("process_start_time_seconds", startedAt / SECOND_MS);
    counts?.countUsage(clock.now());
    await sources.write(snapshot, {
      process: (into) => writeProcess(into, loop.lag()),
      computer: (into) => writeComputer(into),
      ...(reads ? programSources(reads, withCompatible, clock) : {}),
    });
    if (reads) for (const pool of reads.configuredPools()) showResults(instruments.count, pool);
    return await instruments.text(format);
  }

  return {
    async watch(store) {
      const [jobs, machines] = await Promise.all([
        store.jobs({ unfinished: true }),
        store.machines({ live: true }),
      ]);
      const living = machines.map(({ size, ...machine }) => ({ ...machine, ...size }));
      counts = createEventCounts({ instruments, jobs, machines: living, now: clock.now() });
      stop = store.onEvent(counts.take);
    },
    takeRecord: (record) => counts?.takeRecord(record),
    countRequest(endpoint, status) {
      const labels = { endpoint, status: status === 0 ? "none" : String(status) };
      instruments.count("firerunner_gitlab_requests_total", 1, labels);
      instruments.count("gitlab_runner_api_request_statuses_total", 1, labels);
    },
    countCache: (operation, result) =>
      instruments.count("firerunner_cache_requests_total", 1, { operation, result }),
    countWriteError: () => instruments.count("firerunner_store_write_errors_total", 1),
    serve(given) {
      reads = given;
    },
    async scrape(format) {
      const going = underWay.get(format);
      if (going !== undefined) return await going;
      // The other format is of the same instruments, and waits for its turn.
      const scraped = previous.then(() => scrapeAlone(format)).finally(() => underWay.delete(format));
      underWay.set(format, scraped);
      previous = scraped.catch(() => {});
      return await scraped;
    },
    close() {
      stop();
      loop.close();
      sources.close();
    },
  };
}

type Source = (snapshot: Snapshot) => Promise<void> | void;

function programSources(
  reads: MetricsReads,
  withCompatible: boolean,
  clock: Pick<Clock, "now">,
): Record<string, Source> {
  const { version } = reads;
  return {
    build: ({ set }) => set("firerunner_build_info", 1, { version, node_version: process.version }),
    async figures(snapshot) {
      const figures = await reads.figures();
      writeFigures(snapshot, figures, clock.now());
      if (withCompatible) writeCompatible(snapshot, figures, version);
    },
    machines: async (snapshot) => writeMachines(snapshot, await reads.machines(), reads.drivers()),
    async webhooks(snapshot) {
      const webhooks = await reads.webhooks();
      if (webhooks) writeWebhooks(snapshot, webhooks);
    },
    relay: ({ set }) => {
      const { machines, heldBytes } = reads.relay();
      set("firerunner_relay_machines", machines);
      set("firerunner_relay_held_bytes", heldBytes);
    },
    caches: async (snapshot) => writeCaches(snapshot, await reads.caches()),
    async stateDisk({ set }) {
      const { freeBytes, sizeBytes } = await reads.stateDisk();
      set("firerunner_state_disk_free_bytes", freeBytes);
      set("firerunner_state_disk_size_bytes", sizeBytes);
    },
    certificates: (snapshot) => writeCertificates(snapshot, reads.certificates()),
  };
}

/** Each source by itself: what one cannot say, or is too slow to say, is left out and told of. */
function createSources({ clock, log }: Pick<MetricsOptions, "clock" | "log">) {
  const leftOut = "more metrics could not be read";
  const sampled = createSampledLog({ log, clock, leftOut });
  const running = new Set<string>();

  async function one(name: string, source: Source, snapshot: Snapshot): Promise<void> {
    // One that hangs must not be asked again and again: each time may take a thread.
    if (running.has(name)) return complain(name, "it has not answered since the scrape before");
    running.add(name);
    try {
      await source(snapshot);
    } catch (error) {
      complain(name, describeError(error));
    } finally {
      running.delete(name);
    }
  }

  function complain(source: string, problem: string): void {
    sampled.write("warn", source, { source, problem }, "metrics could not be read");
  }

  return {
    async write(snapshot: Snapshot, all: Readonly<Record<string, Source>>): Promise<void> {
      const work = Object.entries(all).map(([name, source]) => one(name, source, snapshot));
      await atMost(clock, PATIENCE_MS, Promise.all(work));
    },
    close: sampled.flush,
  };
}
