import type { Pool } from "../domain/pool.ts";
import type { ManagedRunner } from "../store/runner-store.ts";

/**
 * Makes the runners that the waiting jobs need, keeps them online, and deletes them: the pools of jobs by tag. What it cannot do
 * now it says in words and tries again later; nothing it meets ends it.
 */
export interface RunnerProvisioner {
  /**
   * Reads the store, so that `pools` is complete: jobs that were claimed before a restart are given up if their pool is not known.
   * Throws StoreError.
   */
  load(): Promise<void>;
  start(): void;
  /** Nothing new is asked of GitLab; resolves when what was asked is answered and stored. */
  stop(): Promise<void>;
  wake(): void;
  /** One pool for each runner that is active or retiring: jobs of both may be unfinished. */
  pools(): ReadonlyMap<string, Pool>;
  onPoolsChange(listener: () => void): () => void;
  /** Jobs that may be claimed through a pool now: 0 for a retiring runner. Undefined for a pool that is not of its creator. */
  wanted(pool: string): number | undefined;
  /** The pool in whose machine a claimed job belongs: its own tags' where GitLab gave it to a runner with more tags. */
  assign(jobId: number, pool: Pool): Pool;
  /** GitLab refused this pool's token: look whether its runner was deleted or its token changed. */
  requestRecheck(pool: string): void;
  /** Why jobs with these tags have no runner, in words; undefined when nothing is in the way. */
  problem(tags: readonly string[]): string | undefined;
  status(): Promise<readonly ManagedRunner[]>;
  /** Makes a runner for these tags ahead of any job; resolves when it is active. Throws what is in the way. */
  create(tags: readonly string[]): Promise<ManagedRunner>;
  /**
   * Makes a runner with the job's tags for that job alone, which no machine can be had for; resolves when it is active. Its row, too,
   * is taken out of use and deleted as soon as nothing is polled for it. Throws what is in the way: also where only one more runner
   * may be made, which is kept for jobs that can be served.
   */
  createForUnservable(job: { readonly id: number; readonly tags: readonly string[] }): Promise<ManagedRunner>;
  /** Takes it out of use; it is deleted in GitLab when its jobs have ended. Throws when there is none with this key or GitLab id. */
  retire(keyOrId: string): Promise<ManagedRunner>;
  /** Takes every unused runner out of use and deletes what GitLab has of ours beyond that. Answers what was done, in words. */
  prune(): Promise<readonly string[]>;
}
