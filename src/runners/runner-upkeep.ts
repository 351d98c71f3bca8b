/**
 * What is done for runners that exist: GitLab hears of each now and then with its token and, once, with what it is to be; those that
 * nobody needs are taken out of use and deleted. One row at a time, each step repeatable.
 */
import type { Clock } from "../base/clock.ts";
import { HOUR_MS } from "../base/units.ts";
import type { WebhookConfig } from "../discovery/config.ts";
import type { Pool } from "../domain/pool.ts";
import { routeJob, type TagRules } from "../domain/routing.ts";
import { GitLabError } from "../gitlab/errors.ts";
import type { GitLabRest } from "../gitlab/rest-api.ts";
import type { RunnerApi, RunnerInfo } from "../gitlab/runner-api.ts";
import type { ManagedRunner } from "../store/jobs-by-tag.ts";
import type { Store } from "../store/store.ts";
import type { RunnerIndex } from "./runner-index.ts";
import { tagsKey } from "./runner-pools.ts";

/** A use is noted at most this often. */
const NOTE_MS = 60_000;

interface RunnerUpkeepOptions {
  readonly store: Store;
  readonly rest: GitLabRest;
  readonly index: RunnerIndex;
  readonly config: () => WebhookConfig["runners"];
  /** A request is open that may bring a job of this pool. */
  readonly isPolled: (runner: Pick<ManagedRunner, "pool" | "jobId">) => boolean;
  readonly rules: () => TagRules;
  readonly clock: Pick<Clock, "now">;
}

export interface RunnerUpkeep {
  /** Notes the use of runners that are needed, and takes the unneeded out of use. */
  updateUse(row: ManagedRunner): Promise<void>;
  /** Nothing of it is unfinished or may become so. */
  isRemovable(row: ManagedRunner): boolean;
  /** Deletes a retiring runner in GitLab, unless GitLab says that a job of its runs. */
  remove(row: ManagedRunner): Promise<void>;
}

export function createRunnerUpkeep(options: RunnerUpkeepOptions): RunnerUpkeep {
  const { store, rest, index, clock } = options;

  async function updateUse(row: ManagedRunner): Promise<void> {
    const now = clock.now();
    if (isInUse(row)) {
      if (now - row.usedAt >= NOTE_MS) await store.noteRunnerUsed(row.key, now);
      return;
    }
    const reason = reasonToRetire(row, now);
    if (reason !== undefined) await store.retireRunner(row.key, reason);
  }

  function isNeeded({ tags, pool }: ManagedRunner): boolean {
    return index.needs().has(tagsKey(tags)) && !index.isUsed(pool);
  }

  function isInUse(row: ManagedRunner): boolean {
    return (row.jobId === null && isNeeded(row)) || index.unfinished(row.pool) > 0;
  }

  function reasonToRetire(row: ManagedRunner, now: number): string | undefined {
    if (isNeeded(row) || options.isPolled(row)) return undefined;
    const routing = routeJob(row.tags, options.rules());
    // Kept online it would only make GitLab say that such jobs have a runner.
    if (routing.kind === "refused") return routing.reason;
    if (row.jobId !== null) return index.isUsed(row.pool) ? "its job has ended" : "its job waits no more";
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
    updateUse,
    remove,
    isRemovable: (row) => index.unfinished(row.pool) === 0 && !options.isPolled(row),
  };
}

const DAY_MS = 24 * HOUR_MS;

interface RunnerVerifierOptions {
  readonly store: Store;
  readonly rest: GitLabRest;
  readonly api: RunnerApi;
  readonly index: RunnerIndex;
  readonly settings: RunnerSettings;
  readonly config: () => WebhookConfig["runners"];
  readonly runnerInfo: (pool: Pool) => RunnerInfo | undefined;
  readonly clock: Pick<Clock, "now">;
  readonly random: () => number;
}

export interface RunnerVerifier {
  /** The runners of which GitLab should hear now; those that have waited longest come first. */
  verifyDue(rows: readonly ManagedRunner[]): ManagedRunner[];
  /**
   * GitLab hears its token, which is renewed in time, and once what it is to be; a runner that GitLab no longer knows is retired.
   */
  verify(row: ManagedRunner): Promise<void>;
}

export function createRunnerVerifier(options: RunnerVerifierOptions): RunnerVerifier {
  const { store, rest, api, index, settings, clock, random } = options;
  const times = createVerifyTimes({ intervalMs: () => options.config().verifyInterval, random });

  async function verify(row: ManagedRunner): Promise<void> {
    const token = index.token(row.key);
    if (!token) return;
    const pool = index.pools().get(row.pool);
    try {
      if (isRenewalDue(row, clock.now())) {
        const next = await api.resetToken(token);
        await store.replaceRunnerToken(row.key, next.token, next.tokenExpiresAt);
        index.setToken(row.key, next.token);
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

/** How much earlier than configured at most. */
const SPREAD = 0.25;

/**
 * When GitLab has to hear of each runner again (epoch ms): drawn anew after each time, so that runners that were made together, or
 * heard of together after a restart, do not come together for ever.
 */
interface VerifyTimes {
  dueAt(row: Pick<ManagedRunner, "key" | "verifiedAt">): number;
  /** Forgets runners that are no more. */
  keepOnly(keys: ReadonlySet<string>): void;
}

function createVerifyTimes(options: {
  readonly intervalMs: () => number;
  readonly random: () => number;
}): VerifyTimes {
  /** The share of the interval that is let go by, for the time it was drawn for. */
  const drawn = new Map<string, { readonly verifiedAt: number; readonly share: number }>();

  return {
    dueAt({ key, verifiedAt }) {
      if (verifiedAt === null) return 0;
      const known = drawn.get(key);
      const share = known?.verifiedAt === verifiedAt ? known.share : 1 - SPREAD * options.random();
      drawn.set(key, { verifiedAt, share });
      return verifiedAt + share * options.intervalMs();
    },
    keepOnly(keys) {
      for (const key of drawn.keys()) if (!keys.has(key)) drawn.delete(key);
    },
  };
}

/**
 * Which runners GitLab was told, by this process, what they are to be. The configuration may have changed while nobody ran, and
 * people change runners by hand: so each is told once, and again when the configuration changes.
 */
export interface RunnerSettings {
  isTold(key: string, isProtected: boolean): boolean;
  noteTold(key: string, isProtected: boolean): void;
  /** Forgets runners that are no more. */
  keepOnly(keys: ReadonlySet<string>): void;
}

export function createRunnerSettings(): RunnerSettings {
  const told = new Map<string, boolean>();
  return {
    isTold: (key, isProtected) => told.get(key) === isProtected,
    noteTold: (key, isProtected) => void told.set(key, isProtected),
    keepOnly(keys) {
      for (const key of told.keys()) if (!keys.has(key)) told.delete(key);
    },
  };
}
