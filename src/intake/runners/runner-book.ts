import type { Clock } from "../../base/clock.ts";
import { createListeners } from "../../base/listeners.ts";
import type { Secret } from "../../base/secret.ts";
import { MINUTE_MS } from "../../base/units.ts";
import type { Pool } from "../../lifecycle/pool.ts";
import type { TagRules } from "../../lifecycle/routing.ts";
import type { ManagedRunner } from "../../store/managed-runner.ts";
import type { Store } from "../../store/store.ts";
import type { Demand } from "../demand.ts";
import { type Need, needsOf, tagsKey } from "./runner-needs.ts";
import { fingerprint, poolOf, takesSameSlot } from "./runner-pools.ts";
import { servedBy } from "./runner-service.ts";

/** A job given to another pool than the one that was asked for has its row by then, or was ended. */
const EXPECT_MS = 5 * MINUTE_MS;

export interface RunnerBookOptions {
  readonly store: Pick<Store, "runners" | "runnerToken" | "jobs" | "onEvent">;
  readonly demand: Demand;
  readonly rules: () => TagRules;
  readonly perJob: () => boolean;
  readonly clock: Pick<Clock, "now">;
}

/** What is known of our runners, their jobs, and the jobs that wait for them. Answers from memory; `refresh` reads the store. */
export interface RunnerBook {
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
  onNews(listener: () => void): () => void;
  close(): void;
}

export function createRunnerBook(options: RunnerBookOptions): RunnerBook {
  const { store, demand, rules, perJob, clock } = options;
  const poolListeners = createListeners<void>();
  const newsListeners = createListeners<void>();
  const tokens = new Map<string, Secret>();
  const used = new Set<string>();
  /** Jobs on their way into another pool than the one whose runner claimed them. */
  const expected = new Map<number, { readonly pool: string; readonly until: number }>();
  let rows: readonly ManagedRunner[] = [];
  let pools: ReadonlyMap<string, Pool> = new Map();
  let needs: ReadonlyMap<string, Need> | undefined;
  let wanted: ReadonlyMap<string, number> | undefined;
  let unfinished = new Map<string, number>();
  let jobsChanged = true;

  const stopDemand = demand.onChange(() => {
    needs = undefined;
    wanted = undefined;
    newsListeners.emit();
  });
  const stopEvents = store.onEvent((event) => {
    if (event.kind !== "job:claimed" && event.kind !== "job:finished") return;
    jobsChanged = true;
    if (event.kind === "job:claimed") noteClaim(event.detail.pool, event.jobId);
    newsListeners.emit();
  });

  function noteClaim(pool: string, jobId: number | null): void {
    unfinished.set(pool, (unfinished.get(pool) ?? 0) + 1);
    if (jobId !== null) expected.delete(jobId);
    useUp(pool);
  }

  function useUp(pool: string): void {
    if (rows.some((row) => row.pool === pool && row.jobId !== null)) used.add(pool);
    wanted = undefined;
  }

  async function refresh(): Promise<void> {
    await readJobs();
    const read = await store.runners();
    for (const { key, state } of read) {
      const token = state === "creating" || tokens.has(key) ? undefined : await store.runnerToken(key);
      if (token) tokens.set(key, token);
    }
    rows = read;
    forget();
    rebuild();
  }

  async function readJobs(): Promise<void> {
    if (!jobsChanged) return;
    jobsChanged = false;
    try {
      const counts = new Map<string, number>();
      for (const { pool } of await store.jobs({ unfinished: true }))
        counts.set(pool, (counts.get(pool) ?? 0) + 1);
      unfinished = counts;
    } catch (error) {
      jobsChanged = true;
      throw error;
    }
  }

  function forget(): void {
    const keys = new Set(rows.map(({ key }) => key));
    const names = new Set(rows.map(({ pool }) => pool));
    for (const key of tokens.keys()) if (!keys.has(key)) tokens.delete(key);
    for (const pool of used) if (!names.has(pool)) used.delete(pool);
    for (const [jobId, { until }] of expected) if (until < clock.now()) expected.delete(jobId);
    for (const pool of unfinished.keys()) useUp(pool);
  }

  function rebuild(): void {
    const before = fingerprint(pools);
    const meanings = rules();
    const living = rows.filter(({ state }) => state !== "creating");
    pools = new Map(living.map((row) => [row.pool, poolOf(row, meanings, tokens.get(row.key))]));
    wanted = undefined;
    if (fingerprint(pools) !== before) poolListeners.emit();
  }

  function wantedByPool(): ReadonlyMap<string, number> {
    const open = rows.filter(
      ({ state, key, pool }) => state === "active" && tokens.has(key) && !used.has(pool),
    );
    wanted ??= servedBy(open, book.needs(), pools);
    return wanted;
  }

  /** The pool of the job's own tags where its machine takes the same slot; else the one that was asked for. */
  function ownPool(jobId: number, pool: Pool): Pool {
    const route = demand.find(jobId)?.route;
    if (!route) return pool;
    const key = tagsKey(route.tags);
    const asked = rows.find((row) => row.pool === pool.name);
    if (!asked || tagsKey(asked.tags) === key) return pool;
    const free = rows.filter((row) => row.state === "active" && !used.has(row.pool));
    const own = pools.get(free.find(({ tags }) => tagsKey(tags) === key)?.pool ?? "");
    return own && takesSameSlot(own, pool) ? own : pool;
  }

  const book: RunnerBook = {
    refresh,
    rows: () => rows,
    token: (key) => tokens.get(key),
    setToken(key, token) {
      tokens.set(key, token);
      rebuild();
    },
    needs() {
      needs ??= needsOf(demand.pending());
      return needs;
    },
    isUsed: (pool) => used.has(pool),
    unfinished(pool) {
      const coming = [...expected.values()].filter((each) => each.pool === pool);
      return (unfinished.get(pool) ?? 0) + coming.length;
    },
    pools: () => pools,
    wanted: (pool) => (pools.has(pool) ? (wantedByPool().get(pool) ?? 0) : undefined),
    assign(jobId, pool) {
      const own = ownPool(jobId, pool);
      if (own !== pool) expected.set(jobId, { pool: own.name, until: clock.now() + EXPECT_MS });
      if (perJob()) for (const { name } of [pool, own]) useUp(name);
      return own;
    },
    onPoolsChange: poolListeners.add,
    onNews: newsListeners.add,
    close() {
      stopDemand();
      stopEvents();
    },
  };
  return book;
}
