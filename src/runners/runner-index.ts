import type { Clock } from "../base/clock.ts";
import { createListeners } from "../base/listeners.ts";
import type { Secret } from "../base/secret.ts";
import type { Demand, PendingJob } from "../discovery/demand.ts";
import type { Pool } from "../domain/pool.ts";
import type { TagRules } from "../domain/routing.ts";
import type { ManagedRunner } from "../store/managed-runner.ts";
import type { Store } from "../store/store.ts";
import { createRunnerCache } from "./runner-cache.ts";
import { createRunnerJobs } from "./runner-jobs.ts";
import { type Need, needsOf, tagsKey } from "./runner-needs.ts";
import { takesSameSlot } from "./runner-pools.ts";
import { servedBy } from "./runner-service.ts";

export interface RunnerIndexOptions {
  readonly store: Pick<Store, "runners" | "runnerToken" | "jobs" | "onEvent">;
  readonly demand: Demand;
  readonly rules: () => TagRules;
  readonly perJob: () => boolean;
  readonly clock: Pick<Clock, "now">;
}

/** What is known of our runners, their jobs, and the jobs that wait for them. Answers from memory; `refresh` reads the store. */
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
  onNews(listener: () => void): () => void;
  close(): void;
}

export function createRunnerIndex(options: RunnerIndexOptions): RunnerIndex {
  const { store, demand, perJob, clock } = options;
  const jobs = createRunnerJobs(store, clock);
  const shelf = createRunnerCache(options);
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
    return jobs.hasClaimed(pool) && shelf.rows().some((row) => row.pool === pool && row.jobId !== null);
  }

  function open(): ManagedRunner[] {
    return shelf.rows().filter(({ state, pool }) => state === "active" && !isUsed(pool));
  }

  function wantedByPool(): ReadonlyMap<string, number> {
    wanted ??= servedBy(
      open().filter(({ key }) => shelf.token(key) !== undefined),
      book.needs(),
      shelf.pools(),
    );
    return wanted;
  }

  const book: RunnerIndex = {
    ...shelf,
    async refresh() {
      await jobs.refresh();
      await shelf.refresh();
      jobs.keepOnly(new Set(shelf.rows().map(({ pool }) => pool)));
      wanted = undefined;
    },
    needs() {
      needs ??= needsOf(demand.pending());
      return needs;
    },
    isUsed,
    unfinished: jobs.unfinished,
    wanted: (pool) => (shelf.pools().has(pool) ? (wantedByPool().get(pool) ?? 0) : undefined),
    assign(jobId, pool) {
      const asked = shelf.rows().find((row) => row.pool === pool.name);
      const own = ownPool(demand.find(jobId), asked, open(), shelf.pools()) ?? pool;
      if (own !== pool) jobs.expect(jobId, own.name);
      if (perJob()) for (const { name } of [pool, own]) jobs.noteClaim(name);
      wanted = undefined;
      return own;
    },
    onNews: newsListeners.add,
    close() {
      for (const stop of stops) stop();
    },
  };
  return book;
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
