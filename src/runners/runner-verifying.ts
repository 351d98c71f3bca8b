/** GitLab hears of each runner now and then, with its token and, once, with what it is to be. */
import type { Clock } from "../base/clock.ts";
import { HOUR_MS } from "../base/units.ts";
import type { WebhookConfig } from "../discovery/config.ts";
import type { Pool } from "../domain/pool.ts";
import { GitLabError } from "../gitlab/errors.ts";
import type { GitLabRest } from "../gitlab/rest-api.ts";
import type { RunnerApi, RunnerInfo } from "../gitlab/runner-api.ts";
import type { ManagedRunner } from "../store/managed-runner.ts";
import type { Store } from "../store/store.ts";
import type { RunnerIndex } from "./runner-index.ts";
import type { RunnerSettings } from "./runner-settings.ts";
import { createVerifyTimes } from "./verify-times.ts";

const DAY_MS = 24 * HOUR_MS;

export interface RunnerVerifyingOptions {
  readonly store: Store;
  readonly rest: GitLabRest;
  readonly api: RunnerApi;
  readonly book: RunnerIndex;
  readonly settings: RunnerSettings;
  readonly config: () => WebhookConfig["runners"];
  readonly runnerInfo: (pool: Pool) => RunnerInfo | undefined;
  readonly clock: Pick<Clock, "now">;
  readonly random: () => number;
}

export interface RunnerVerifying {
  /** The runners of which GitLab should hear now; those that have waited longest come first. */
  verifyDue(rows: readonly ManagedRunner[]): ManagedRunner[];
  /**
   * GitLab hears its token, which is renewed in time, and once what it is to be; a runner that GitLab no longer knows is retired.
   */
  verify(row: ManagedRunner): Promise<void>;
}

export function createRunnerVerifying(options: RunnerVerifyingOptions): RunnerVerifying {
  const { store, rest, api, book, settings, clock, random } = options;
  const times = createVerifyTimes({ intervalMs: () => options.config().verifyInterval, random });

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
      await restore(row);
    } catch (error) {
      if (!(error instanceof GitLabError) || error.code !== "gitlab_wrong_token") throw error;
      await store.retireRunner(row.key, unknownToken);
    }
  }

  /** What it may take is as configured, also when that or the runner was changed meanwhile. */
  async function restore({ key, gitlabId, tags }: ManagedRunner): Promise<void> {
    const isProtected = options.config().protected;
    if (gitlabId === null || settings.isTold(key, isProtected)) return;
    await rest.restoreRunner(gitlabId, { tags, protected: isProtected });
    settings.noteTold(key, isProtected);
  }

  function isDue(row: ManagedRunner, now: number): boolean {
    const isAsConfigured = settings.isTold(row.key, options.config().protected);
    return !isAsConfigured || times.dueAt(row) <= now || isRenewalDue(row, now);
  }

  return {
    verify,
    verifyDue(rows) {
      const now = clock.now();
      const keys = new Set(rows.map(({ key }) => key));
      times.keepOnly(keys);
      settings.keepOnly(keys);
      return rows
        .filter((row) => isDue(row, now))
        .toSorted((a, b) => (a.verifiedAt ?? 0) - (b.verifiedAt ?? 0));
    },
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
