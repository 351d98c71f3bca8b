/** Makes runners in GitLab so that none is ever lost (the row comes first, then GitLab, then the token), within the configured limit. */
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { MINUTE_MS } from "../base/units.ts";
import type { WebhookConfig } from "../discovery/config.ts";
import { jobPoolName, type Route, tagPoolName } from "../domain/routing.ts";
import type { GitLabRest, Scope } from "../gitlab/rest-api.ts";
import type { ManagedRunner, RunnerStore } from "../store/jobs-by-tag.ts";
import type { Store } from "../store/store.ts";
import { RunnerError } from "./errors.ts";
import { idleRunners, type RunnerIndex } from "./runner-index.ts";
import { describeRunner, readMark } from "./runner-mark.ts";
import type { RunnerSettings } from "./runner-upkeep.ts";

/** How often GitLab's list is compared with ours. */
const SWEEP_MS = 10 * MINUTE_MS;
/** After an answer was lost: a slow server may have made the runner only after the list was read. */
const SWEEP_SOON_MS = 2 * MINUTE_MS;

interface RunnerCreatorOptions {
  readonly store: Store;
  readonly rest: GitLabRest;
  readonly index: RunnerIndex;
  readonly settings: Pick<RunnerSettings, "noteTold">;
  readonly scope: () => Promise<Scope>;
  readonly config: () => WebhookConfig["runners"];
  readonly installation: string;
  readonly hostname: string;
  readonly newKey: () => string;
  readonly clock: Pick<Clock, "now">;
  readonly log: Log;
}

export interface RunnerCreator {
  /** Resolves when it is active. Throws what is in the way; a runner of which GitLab's answer was lost is found by the next sweep. */
  create(route: Route, jobId: number | null): Promise<ManagedRunner>;
  /** When GitLab's list has to be read again (epoch ms). */
  sweepDueAt(): number;
  /** Deletes what GitLab has of ours and no row here stands for, as soon as none of its jobs runs. Returns how many. */
  sweep(): Promise<number>;
}

export function createRunnerCreator(options: RunnerCreatorOptions): RunnerCreator {
  const { store, rest, index, clock, log } = options;
  /** Keys whose creation is under way: their rows are no leftovers. */
  const underWay = new Set<string>();
  let sweepDueAt = 0;

  async function create(route: Route, jobId: number | null): Promise<ManagedRunner> {
    const scope = await options.scope();
    const key = options.newKey();
    const isProtected = options.config().protected;
    const pool = freeName(jobId === null ? tagPoolName(route.tags) : jobPoolName(jobId), index.rows());
    underWay.add(key);
    try {
      await store.addRunner({ key, pool, tags: route.tags, jobId, size: route.size });
      const { installation, hostname } = options;
      const description = describeRunner({ installation, key, hostname, tags: route.tags });
      const given = await rest.createRunner({
        ...{ scope, description, tags: route.tags },
        protected: isProtected,
      });
      options.settings.noteTold(key, isProtected);
      const { id: gitlabId, token, tokenExpiresAt } = given;
      await store.activateRunner(key, { gitlabId, token, tokenExpiresAt });
    } catch (error) {
      // Whether GitLab has made it nobody knows: the list will tell, now and once more when a slow server is done.
      sweepDueAt = Math.min(sweepDueAt, clock.now());
      throw error;
    } finally {
      underWay.delete(key);
    }
    await index.refresh();
    return requireRow(index, key);
  }

  /** What GitLab has of this installation, by key. */
  async function listOurs(): Promise<ReadonlyMap<string, number>> {
    const listed = await rest.runnersOf(await options.scope());
    const marked = listed.map(({ id, description }) => ({ id, mark: readMark(description) }));
    const ours = marked.filter(({ mark }) => mark?.installation === options.installation);
    return new Map(ours.map(({ id, mark }) => [mark?.key ?? "", id]));
  }

  async function sweep(): Promise<number> {
    const inGitLab = await listOurs();
    await index.refresh();
    const known = new Set([...index.rows().map(({ key }) => key), ...underWay]);
    let deleted = 0;
    for (const [key, id] of inGitLab) if (!known.has(key)) deleted += await deleteStray(id, key);
    const unanswered = index.rows().filter(({ key, state }) => state === "creating" && !underWay.has(key));
    for (const { key } of unanswered) {
      const id = inGitLab.get(key);
      if (id === undefined) await store.markRunnerGone(key);
      else await store.retireRunner(key, lostAnswer, id);
    }
    const isLate = unanswered.some(({ key }) => !inGitLab.has(key));
    sweepDueAt = clock.now() + (isLate ? SWEEP_SOON_MS : SWEEP_MS);
    return deleted;
  }

  async function deleteStray(id: number, key: string): Promise<number> {
    if (await rest.hasRunningJobs(id)) return 0;
    await rest.deleteRunner(id);
    log.warn({ runner: id, key }, "a runner of ours that nothing here knew was deleted in GitLab");
    return 1;
  }

  return { create, sweep, sweepDueAt: () => sweepDueAt };
}

const lostAnswer = "GitLab's answer with its token was lost";

/** `name`, or `name#2` and so on while a runner on its way out still has it. */
function freeName(name: string, rows: readonly ManagedRunner[]): string {
  const taken = new Set(rows.map(({ pool }) => pool));
  for (let count = 1; ; count++) {
    const candidate = count === 1 ? name : `${name}#${count}`;
    if (!taken.has(candidate)) return candidate;
  }
}

function requireRow(index: RunnerIndex, key: string): ManagedRunner {
  const row = index.rows().find((each) => each.key === key);
  if (row) return row;
  throw new TypeError(`runner ${key} was stored and is not there`);
}

export interface LimitDeps {
  readonly store: Pick<RunnerStore, "retireRunner">;
  readonly config: () => WebhookConfig["runners"];
  readonly index: Pick<RunnerIndex, "refresh" | "rows" | "needs" | "unfinished">;
  readonly creator: Pick<RunnerCreator, "create">;
}

/**
 * Makes a runner, unless there are as many as may be: then the one that has been idle for longest goes, and this is thrown. GitLab
 * is not asked for what is known to be too much.
 */
export async function createWithinLimit(
  { store, config, index, creator }: LimitDeps,
  route: Route,
  jobId: number | null,
): Promise<ManagedRunner> {
  const { most } = config();
  if (index.rows().length < most) return await creator.create(route, jobId);
  const isLeaving = index
    .rows()
    .some(({ state, pool }) => state === "retiring" && index.unfinished(pool) === 0);
  const [spare] = isLeaving ? [] : idleRunners(index).toSorted((a, b) => a.usedAt - b.usedAt);
  if (spare) await store.retireRunner(spare.key, "another set of tags needs its place");
  const hint = spare || isLeaving ? "one of them is making room" : "raise it, if GitLab's plan allows more";
  throw new RunnerError(
    "runner_limit",
    `there are ${most} runners already, as many as webhook.runners.most allows`,
    { hint },
  );
}

/** The same for a job that can only be failed: no runner makes room for it, and the last place is not for it. */
export async function createBelowLimit(
  { config, index, creator }: Pick<LimitDeps, "config" | "index" | "creator">,
  route: Route,
  jobId: number,
): Promise<ManagedRunner> {
  const { most } = config();
  await index.refresh();
  if (index.rows().length + 1 < most) return await creator.create(route, jobId);
  throw new RunnerError(
    "runner_limit",
    `there are ${index.rows().length} runners already, and the last of webhook.runners.most (${most}) is kept for jobs that can be served`,
  );
}

/** Costs nothing to run into again, and ends as soon as another runner is gone. */
export function isOwnLimit(error: unknown): boolean {
  return error instanceof RunnerError && error.code === "runner_limit";
}
