/** Takes runners out of use that nobody needs, and deletes them: one row at a time, each step repeatable. */
import type { Clock } from "../base/clock.ts";
import type { WebhookConfig } from "../discovery/config.ts";
import { routeJob, type TagRules } from "../domain/routing.ts";
import type { GitLabRest } from "../gitlab/rest-api.ts";
import type { ManagedRunner } from "../store/managed-runner.ts";
import type { Store } from "../store/store.ts";
import type { RunnerIndex } from "./runner-index.ts";
import { tagsKey } from "./runner-needs.ts";

/** A use is noted at most this often. */
const NOTE_MS = 60_000;

export interface RunnerUpkeepOptions {
  readonly store: Store;
  readonly rest: GitLabRest;
  readonly book: RunnerIndex;
  readonly config: () => WebhookConfig["runners"];
  /** A request is open that may bring a job of this pool. */
  readonly isPolled: (pool: string) => boolean;
  readonly rules: () => TagRules;
  readonly clock: Pick<Clock, "now">;
}

export interface RunnerUpkeep {
  /** Notes the use of runners that are needed, and takes the unneeded out of use. */
  sort(row: ManagedRunner): Promise<void>;
  /** Nothing of it is unfinished or may become so. */
  isRemovable(row: ManagedRunner): boolean;
  /** Deletes a retiring runner in GitLab, unless GitLab says that a job of its runs. */
  remove(row: ManagedRunner): Promise<void>;
}

export function createRunnerUpkeep(options: RunnerUpkeepOptions): RunnerUpkeep {
  const { store, rest, book, clock } = options;

  async function sort(row: ManagedRunner): Promise<void> {
    const now = clock.now();
    if (isInUse(row)) {
      if (now - row.usedAt >= NOTE_MS) await store.noteRunnerUsed(row.key, now);
      return;
    }
    const reason = reasonToRetire(row, now);
    if (reason !== undefined) await store.retireRunner(row.key, reason);
  }

  function isNeeded({ tags, pool }: ManagedRunner): boolean {
    return book.needs().has(tagsKey(tags)) && !book.isUsed(pool);
  }

  function isInUse(row: ManagedRunner): boolean {
    return (row.jobId === null && isNeeded(row)) || book.unfinished(row.pool) > 0;
  }

  function reasonToRetire(row: ManagedRunner, now: number): string | undefined {
    if (isNeeded(row) || options.isPolled(row.pool)) return undefined;
    const routing = routeJob(row.tags, options.rules());
    // Kept online it would only make GitLab say that such jobs have a runner.
    if (routing.kind === "refused") return routing.reason;
    if (row.jobId !== null) return book.isUsed(row.pool) ? "its job has ended" : "its job waits no more";
    if (now - row.usedAt < options.config().keepUnused) return undefined;
    return "no job has asked for it for the time it is kept";
  }

  async function remove(row: ManagedRunner): Promise<void> {
    if (row.gitlabId !== null) {
      if (await rest.hasRunningJobs(row.gitlabId)) return;
      await rest.deleteRunner(row.gitlabId);
    }
    await store.markRunnerGone(row.key);
  }

  return {
    sort,
    remove,
    isRemovable: ({ pool }) => book.unfinished(pool) === 0 && !options.isPolled(pool),
  };
}
