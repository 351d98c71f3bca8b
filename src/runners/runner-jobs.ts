import type { Clock } from "../base/clock.ts";
import { createListeners } from "../base/listeners.ts";
import { MINUTE_MS } from "../base/units.ts";
import type { Store } from "../store/store.ts";

/** A job given to another pool than the one that was asked for has its row by then, or was ended. */
const EXPECT_MS = 5 * MINUTE_MS;

/** The jobs of each pool, as far as runners depend on them. */
export interface RunnerJobs {
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

export function createRunnerJobs(
  store: Pick<Store, "jobs" | "onEvent">,
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
