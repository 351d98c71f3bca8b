/** Makes runners in GitLab so that none is ever lost: the row comes first, then GitLab, then the token. */
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { MINUTE_MS } from "../base/units.ts";
import type { WebhookConfig } from "../discovery/config.ts";
import { type Route, tagPoolName } from "../domain/routing.ts";
import type { GitLabRest, Scope } from "../gitlab/rest-api.ts";
import type { ManagedRunner } from "../store/managed-runner.ts";
import type { Store } from "../store/store.ts";
import type { RunnerIndex } from "./runner-index.ts";
import { describeRunner, readMark } from "./runner-mark.ts";
import type { RunnerSettings } from "./runner-settings.ts";

/** How often GitLab's list is compared with ours. */
const SWEEP_MS = 10 * MINUTE_MS;
/** After an answer was lost: a slow server may have made the runner only after the list was read. */
const SWEEP_SOON_MS = 2 * MINUTE_MS;

export interface RunnerCreatorOptions {
  readonly store: Store;
  readonly rest: GitLabRest;
  readonly book: RunnerIndex;
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
  make(route: Route, jobId: number | null): Promise<ManagedRunner>;
  /** When GitLab's list has to be read again (epoch ms). */
  sweepDueAt(): number;
  /** Deletes what GitLab has of ours and no row here stands for, as soon as none of its jobs runs. Answers how many. */
  sweep(): Promise<number>;
}

export function createRunnerCreator(options: RunnerCreatorOptions): RunnerCreator {
  const { store, rest, book, clock, log } = options;
  /** Keys whose creation is under way: their rows are no leftovers. */
  const underWay = new Set<string>();
  let sweepDueAt = 0;

  async function make(route: Route, jobId: number | null): Promise<ManagedRunner> {
    const scope = await options.scope();
    const key = options.newKey();
    const isProtected = options.config().protected;
    const pool = freeName(jobId === null ? tagPoolName(route.tags) : `job:${jobId}`, book.rows());
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
    await book.refresh();
    return requireRow(book, key);
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
    await book.refresh();
    const known = new Set([...book.rows().map(({ key }) => key), ...underWay]);
    let deleted = 0;
    for (const [key, id] of inGitLab) if (!known.has(key)) deleted += await deleteStray(id, key);
    const unanswered = book.rows().filter(({ key, state }) => state === "creating" && !underWay.has(key));
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

  return { make, sweep, sweepDueAt: () => sweepDueAt };
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

function requireRow(book: RunnerIndex, key: string): ManagedRunner {
  const row = book.rows().find((each) => each.key === key);
  if (row) return row;
  throw new TypeError(`runner ${key} was stored and is not there`);
}
