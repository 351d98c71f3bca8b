/** Keeps runners online, renews their tokens, and deletes those that nobody needs: one row at a time, each step repeatable. */
import type { Clock } from "../../base/clock.ts";
import { HOUR_MS } from "../../base/units.ts";
import { GitLabError } from "../../gitlab/errors.ts";
import type { GitLabRest } from "../../gitlab/rest-api.ts";
import type { RunnerApi, RunnerInfo } from "../../gitlab/runner-api.ts";
import type { Pool } from "../../lifecycle/pool.ts";
import type { ManagedRunner } from "../../store/managed-runner.ts";
import type { Store } from "../../store/store.ts";
import type { WebhookConfig } from "../config.ts";
import type { RunnerBook } from "./runner-book.ts";
import { tagsKey } from "./runner-needs.ts";
import { createVerifyTimes } from "./verify-times.ts";

const DAY_MS = 24 * HOUR_MS;
/** A use is noted at most this often. */
const NOTE_MS = 60_000;

export interface RunnerCareOptions {
  readonly store: Store;
  readonly rest: GitLabRest;
  readonly api: RunnerApi;
  readonly book: RunnerBook;
  readonly config: () => WebhookConfig["runners"];
  readonly runnerInfo: (pool: Pool) => RunnerInfo | undefined;
  /** A request is open that may bring a job of this pool. */
  readonly isPolled: (pool: string) => boolean;
  readonly clock: Pick<Clock, "now">;
  readonly random: () => number;
}

export interface RunnerCare {
  /** Notes the use of runners that are needed, and takes the unneeded out of use. */
  sort(row: ManagedRunner): Promise<void>;
  /** The runners of which GitLab should hear now; those that have waited longest come first. */
  verifyDue(rows: readonly ManagedRunner[]): ManagedRunner[];
  /** GitLab hears its token, which is renewed in time; a runner that GitLab no longer knows is retired. */
  verify(row: ManagedRunner): Promise<void>;
  /** Nothing of it is unfinished or may become so. */
  isRemovable(row: ManagedRunner): boolean;
  /** Deletes a retiring runner in GitLab, unless GitLab says that a job of its runs. */
  remove(row: ManagedRunner): Promise<void>;
}

export function createRunnerCare(options: RunnerCareOptions): RunnerCare {
  const { store, rest, api, book, clock, random } = options;
  const times = createVerifyTimes({ intervalMs: () => options.config().verifyInterval, random });

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
    if (row.jobId !== null) return book.isUsed(row.pool) ? "its job has ended" : "its job waits no more";
    if (now - row.usedAt < options.config().keepUnused) return undefined;
    return "no job has asked for it for the time it is kept";
  }

  async function verify(row: ManagedRunner): Promise<void> {
    const token = book.token(row.key);
    if (!token) return;
    const pool = book.pools().get(row.pool);
    try {
      if (isRenewalDue(row, clock.now())) {
        const next = await api.resetToken(token);
        await store.replaceRunnerToken(row.key, next.token, next.tokenExpiresAt);
        book.setToken(row.key, next.token);
      } else await api.verify(token, undefined, pool && options.runnerInfo(pool));
      await store.noteRunnerVerified(row.key, clock.now());
    } catch (error) {
      if (!(error instanceof GitLabError) || error.code !== "gitlab_wrong_token") throw error;
      await store.retireRunner(row.key, unknownToken);
    }
  }

  function verifyDue(rows: readonly ManagedRunner[]): ManagedRunner[] {
    const now = clock.now();
    times.keepOnly(new Set(rows.map(({ key }) => key)));
    return rows
      .filter((row) => times.dueAt(row) <= now || isRenewalDue(row, now))
      .toSorted((a, b) => (a.verifiedAt ?? 0) - (b.verifiedAt ?? 0));
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
    verify,
    remove,
    verifyDue,
    isRemovable: ({ pool }) => book.unfinished(pool) === 0 && !options.isPolled(pool),
  };
}

const unknownToken =
  "GitLab does not know its token any more: it was deleted there, or its token was changed";

/** When less than a day or a quarter of its life is left, whichever is less of its whole life. */
function isRenewalDue({ tokenExpiresAt, verifiedAt, activeAt }: ManagedRunner, now: number): boolean {
  if (tokenExpiresAt === null) return false;
  const lifeMs = tokenExpiresAt - (activeAt ?? verifiedAt ?? now);
  return tokenExpiresAt - now < Math.min(DAY_MS, lifeMs / 4);
}
