/** What is known of our runners: their rows and tokens, their unfinished jobs, the jobs that wait for them, the pools they stand for. */
import type { Clock } from "../base/clock.ts";
import { createListeners } from "../base/listeners.ts";
import type { Secret } from "../base/secret.ts";
import { MINUTE_MS } from "../base/units.ts";
import type { Demand, PendingJob } from "../discovery/pending-job.ts";
import type { Pool } from "../domain/pool.ts";
import type { TagRules } from "../domain/routing.ts";
import type { ManagedRunner, RunnerStore } from "../store/jobs-by-tag.ts";
import type { EventStore, JobStore, Store } from "../store/store.ts";
import { fingerprint, type Need, needsOf, poolOf, servedBy, tagsKey, takesSameSlot } from "./runner-pools.ts";

interface RunnerIndexOptions {
  readonly store: Pick<Store, "runners" | "runnerToken" | "jobs" | "onEvent">;
  readonly demand: Demand;
  readonly rules: () => TagRules;
  readonly perJob: () => boolean;
  readonly clock: Pick<Clock, "now">;
}

/** What is known of our runners, their jobs, and the jobs that wait for them. Comes from memory; `refresh` reads the store. */
export interface RunnerIndex {
  /** Throws StoreError. */
  refresh(): Promise<void>;
  /** All that are not gone, oldest first. */
  rows(): readonly ManagedRunner[];
  token(key: string): Secret | undefined;
  setToken(key: string, token: Secret): void;
  needs(): ReadonlyMap<string, Need>;
  /** A runner for one job that has claimed its job. */
  isUsed(pool: string): boolean;
  /** Unfinished jobs in the store, and those about to get there. */
  unfinished(pool: string): number;
  pools(): ReadonlyMap<string, Pool>;
  wanted(pool: string): number | undefined;
  assign(jobId: number, pool: Pool): Pool;
  onPoolsChange(listener: () => void): () => void;
  /** Something has happened to jobs that may be a reason to act. */
  onJobsChange(listener: () => void): () => void;
  close(): void;
}

export function createRunnerIndex(options: RunnerIndexOptions): RunnerIndex {
  const { store, demand, perJob, clock } = options;
  const jobs = createRunnerJobs(store, clock);
  const cache = createRunnerCache(options);
  const newsListeners = createListeners<void>();
  let needs: ReadonlyMap<string, Need> | undefined;
  let wanted: ReadonlyMap<string, number> | undefined;
  const stops = [
    demand.onChange(() => {
      needs = undefined;
      noteNews();
    }),
    jobs.onChange(noteNews),
    jobs.close,
  ];

  function noteNews(): void {
    wanted = undefined;
    newsListeners.emit();
  }

  /** Made for one job, and has had one: GitLab may have given it another with the same tags. */
  function isUsed(pool: string): boolean {
    return jobs.hasClaimed(pool) && cache.rows().some((row) => row.pool === pool && row.jobId !== null);
  }

  function open(): ManagedRunner[] {
    return cache.rows().filter(({ state, pool }) => state === "active" && !isUsed(pool));
  }

  function wantedByPool(): ReadonlyMap<string, number> {
    wanted ??= servedBy(
      open().filter(({ key }) => cache.token(key) !== undefined),
      index.needs(),
      cache.pools(),
    );
    return wanted;
  }

  const index: RunnerIndex = {
    ...cache,
    async refresh() {
      await jobs.refresh();
      await cache.refresh();
      jobs.keepOnly(new Set(cache.rows().map(({ pool }) => pool)));
      wanted = undefined;
    },
    needs() {
      needs ??= needsOf(demand.pending());
      return needs;
    },
    isUsed,
    unfinished: jobs.unfinished,
    wanted: (pool) => (cache.pools().has(pool) ? (wantedByPool().get(pool) ?? 0) : undefined),
    assign(jobId, pool) {
      const asked = cache.rows().find((row) => row.pool === pool.name);
      const own = ownPool(demand.find(jobId), asked, open(), cache.pools()) ?? pool;
      if (own !== pool) jobs.expect(jobId, own.name);
      if (perJob()) for (const { name } of [pool, own]) jobs.noteClaim(name);
      wanted = undefined;
      return own;
    },
    onJobsChange: newsListeners.add,
    close() {
      for (const stop of stops) stop();
    },
  };
  return index;
}

/** The pool of the job's own tags, where the runner that claimed it has others and the machine takes the same slot. */
function ownPool(
  job: PendingJob | undefined,
  asked: ManagedRunner | undefined,
  open: readonly ManagedRunner[],
  pools: ReadonlyMap<string, Pool>,
): Pool | undefined {
  const key = tagsKey(job?.route.tags ?? []);
  if (!job || !asked || tagsKey(asked.tags) === key) return undefined;
  const own = pools.get(open.find(({ tags }) => tagsKey(tags) === key)?.pool ?? "");
  const claimed = pools.get(asked.pool);
  return own && claimed && takesSameSlot(own, claimed) ? own : undefined;
}

interface RunnerCacheOptions {
  readonly store: Pick<RunnerStore, "runners" | "runnerToken">;
  readonly rules: () => TagRules;
}

/** Our runners as the store has them, with their tokens, and the pools that they stand for. */
function createRunnerCache({ store, rules }: RunnerCacheOptions) {
  const listeners = createListeners<void>();
  const tokens = new Map<string, Secret>();
  let rows: readonly ManagedRunner[] = [];
  let pools: ReadonlyMap<string, Pool> = new Map();

  async function refresh(): Promise<void> {
    const read = await store.runners();
    const keys = new Set(read.map(({ key }) => key));
    for (const key of tokens.keys()) if (!keys.has(key)) tokens.delete(key);
    for (const row of read) await readToken(row);
    rows = read;
    rebuild();
  }

  async function readToken({ key, state }: ManagedRunner): Promise<void> {
    if (state === "creating" || tokens.has(key)) return;
    const token = await store.runnerToken(key);
    if (token) tokens.set(key, token);
  }

  /** Others go by the map itself: it stays the same as long as its pools do. */
  function rebuild(): void {
    const meanings = rules();
    const living = rows.filter(({ state }) => state !== "creating");
    const next = new Map(living.map((row) => [row.pool, poolOf(row, meanings, tokens.get(row.key))]));
    if (fingerprint(next) === fingerprint(pools)) return;
    pools = next;
    listeners.emit();
  }

  return {
    /** Throws StoreError. */
    refresh,
    rows: () => rows,
    pools: () => pools,
    token: (key: string): Secret | undefined => tokens.get(key),
    setToken(key: string, token: Secret): void {
      tokens.set(key, token);
      rebuild();
    },
    onPoolsChange: listeners.add,
  };
}

/** A job given to another pool than the one that was asked for has its row by then, or was ended. */
const EXPECT_MS = 5 * MINUTE_MS;

/** The jobs of each pool, as far as runners depend on them. */
interface RunnerJobs {
  /** Reads the store, if jobs have changed. Throws StoreError. */
  refresh(): Promise<void>;
  /** Unfinished jobs in the store, and those about to get there. */
  unfinished(pool: string): number;
  /** A job was claimed for this pool, or through its runner. */
  hasClaimed(pool: string): boolean;
  noteClaim(pool: string): void;
  /** A claimed job is on its way into another pool than the one whose runner claimed it. */
  expect(jobId: number, pool: string): void;
  /** Forgets pools that are no more. */
  keepOnly(pools: ReadonlySet<string>): void;
  /** After a job was claimed or has ended. */
  onChange(listener: () => void): () => void;
  close(): void;
}

function createRunnerJobs(
  store: Pick<JobStore, "jobs"> & Pick<EventStore, "onEvent">,
  clock: Pick<Clock, "now">,
): RunnerJobs {
  const listeners = createListeners<void>();
  const claimed = new Set<string>();
  const expected = new Map<number, { readonly pool: string; readonly until: number }>();
  let unfinished = new Map<string, number>();
  let changed = true;

  const close = store.onEvent((event) => {
    if (event.kind !== "job:claimed" && event.kind !== "job:finished") return;
    changed = true;
    if (event.kind === "job:claimed") {
      count(unfinished, event.detail.pool);
      claimed.add(event.detail.pool);
      expected.delete(event.jobId ?? 0);
    }
    listeners.emit();
  });

  async function refresh(): Promise<void> {
    if (!changed) return;
    changed = false;
    try {
      const counts = new Map<string, number>();
      for (const { pool } of await store.jobs({ unfinished: true })) count(counts, pool);
      unfinished = counts;
      for (const pool of counts.keys()) claimed.add(pool);
    } catch (error) {
      changed = true;
      throw error;
    }
  }

  return {
    refresh,
    unfinished(pool) {
      const coming = [...expected.values()].filter((each) => each.pool === pool);
      return (unfinished.get(pool) ?? 0) + coming.length;
    },
    hasClaimed: (pool) => claimed.has(pool),
    noteClaim: (pool) => void claimed.add(pool),
    expect: (jobId, pool) => void expected.set(jobId, { pool, until: clock.now() + EXPECT_MS }),
    keepOnly(pools) {
      for (const pool of claimed) if (!pools.has(pool)) claimed.delete(pool);
      for (const [jobId, { until }] of expected) if (until < clock.now()) expected.delete(jobId);
    },
    onChange: listeners.add,
    close,
  };
}

function count(counts: Map<string, number>, pool: string): void {
  counts.set(pool, (counts.get(pool) ?? 0) + 1);
}

/** Runners in use for these tags; `key` is of `tagsKey`. */
export function activeRunners(index: Pick<RunnerIndex, "rows">, key: string): ManagedRunner[] {
  return index.rows().filter(({ state, tags }) => state === "active" && tagsKey(tags) === key);
}

/** Runners in use that no job asks for and none has claimed through. */
export function idleRunners(index: Pick<RunnerIndex, "rows" | "needs" | "unfinished">): ManagedRunner[] {
  const isIdle = ({ tags, pool }: ManagedRunner) =>
    !index.needs().has(tagsKey(tags)) && index.unfinished(pool) === 0;
  return index.rows().filter((row) => row.state === "active" && isIdle(row));
}
