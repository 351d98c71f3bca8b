/**
 * How the jobs that wait in GitLab and name a machine by their tags are found, told from here.
 *
 * A webhook only says that something happened in a project. `webhook-receiver.ts` makes it durable after reading as
 * little of it as will do (`hook-payload.ts`), and tells the watcher, which marks the project as due (`project-watch.ts`). One loop
 * reads due projects from GitLab's API, a few at a time (`pending-reader.ts`) and no faster than its rate limit allows (`api-pace.ts`):
 * first those with news, and slowly all the others, since webhooks can be lost. What was read is the `pending-job-index.ts`; the jobs in
 * it that a machine could run are the demand, for which `runners/` makes runners and `claiming/` asks.
 *
 * Which projects there are is `served-projects.ts`; `hook-health.ts` and `token-review.ts` look after the hook and the token. Nothing that
 * GitLab answers ends the watcher.
 */
import { createWakeLoop } from "../base/wake-loop.ts";
import { type ApiPace, createApiPace } from "./api-pace.ts";
import type { WebhookConfig } from "./config.ts";
import {
  createPendingExplainer,
  type PendingExplainer,
  type PendingExplainerOptions,
} from "./explain-pending.ts";
import type { Demand } from "./pending-job.ts";
import {
  createPendingJobIndex,
  type LeftAlone,
  type PendingJobIndex,
  type PendingJobIndexOptions,
} from "./pending-job-index.ts";
import {
  createMissedJobs,
  createPendingReader,
  type MissedJobs,
  type PendingReader,
  type PendingReaderOptions,
} from "./pending-reader.ts";
import { newProjectWatch, nextRead, noteHook, type ProjectWatch, requestRead } from "./project-watch.ts";
import type { ProjectProblem } from "./served-projects.ts";
import { createProjectList, type ProjectList, type ProjectListOptions } from "./served-projects.ts";
import type { ReceivedHook } from "./webhook-receiver.ts";

/** Projects that are read at one time. */
const READS_AT_ONCE = 4;
/** Longest time until it is checked what has become of jobs that are listed no more. */
const SETTLE_MS = 5_000;

export interface WatcherOptions
  extends Pick<ProjectListOptions, "scope" | "clock" | "random" | "log">,
    Pick<PendingJobIndexOptions, "rules"> {
  readonly store: PendingJobIndexOptions["store"] &
    ProjectListOptions["store"] &
    PendingReaderOptions["store"] &
    PendingExplainerOptions["store"];
  readonly rest: ProjectListOptions["rest"] & PendingReaderOptions["rest"] & PendingExplainerOptions["rest"];
  readonly config: Pick<WebhookConfig, "poll" | "projects">;
  /** Whether webhooks are to be expected: only then one can be missed. */
  readonly expectsHooks: boolean;
}

interface WatcherStatus {
  readonly projects: number;
  /** Projects that a hook has called due and that were not read yet. */
  readonly due: number;
  /** Jobs that wait and name a machine that cannot be had. */
  readonly leftAlone: readonly LeftAlone[];
  /** Jobs that a webhook should have hook of. */
  readonly missedByHooks: number;
  /** False while no waiting job could be found at all: GitLab cannot be asked, or refuses every read. */
  readonly canFind: boolean;
  /** What concerns all projects. */
  readonly problems: readonly string[];
  readonly projectProblems: readonly ProjectProblem[];
}

export interface Watcher extends PendingExplainer {
  readonly demand: Demand;
  start(): void;
  /** Nothing more is asked of GitLab; resolves when what was asked has ended. */
  stop(): Promise<void>;
  /** A webhook has hook of something. */
  noteHook(news: ReceivedHook): void;
  /** Reads one project at once, or all soon: the configuration may have changed, or nobody knows what happened. */
  wake(projectId?: number): void;
  status(): WatcherStatus;
  /** Projects of which hooks have hook, the last first. */
  hookedProjects(): readonly Pick<ProjectWatch, "id" | "path">[];
}

interface WatcherState {
  readonly watches: ReadonlyMap<number, ProjectWatch>;
  readonly index: PendingJobIndex;
  readonly missed: MissedJobs;
  readonly list: ProjectList;
  readonly reader: PendingReader;
  readonly pace: ApiPace;
}

export function createWatcher(options: WatcherOptions): Watcher {
  const { clock, log, config, rest } = options;
  const { requestsPerMinute, interval: intervalMs } = config.poll;
  const watches = new Map<number, ProjectWatch>();
  const index = createPendingJobIndex(options);
  const missed = createMissedJobs({ clock, log, expectsHooks: options.expectsHooks });
  const pace = createApiPace({ clock, log, requestsPerMinute, budget: () => rest.budget });
  const list = createProjectList({ ...options, named: config.projects, onServe, onDrop });
  const loop = createWakeLoop(clock, tick);
  const isServed = (watch: ProjectWatch) => watches.get(watch.id) === watch;
  const onGone = ({ id }: ProjectWatch) => list.check(id);
  const onEnd = loop.wake;
  const reader = createPendingReader({
    ...{ rest, store: options.store, random: options.random, clock, log },
    ...{ index, missed, pace, intervalMs, isServed, onGone, onEnd },
  });
  const state: WatcherState = { watches, index, missed, list, reader, pace };

  function onServe(project: { id: number; path: string; hookedAt: number | null }): void {
    const known = watches.get(project.id);
    if (known) known.path = project.path;
    else watches.set(project.id, newProjectWatch(project, clock.now()));
    if (!known) loop.wake();
  }

  function onDrop(id: number): void {
    watches.delete(id);
    index.dropProject(id);
  }

  async function tick(): Promise<number> {
    await index.settle();
    const settleAt = clock.now() + SETTLE_MS;
    while (reader.reading() < READS_AT_ONCE) {
      const next = nextRead(watches.values(), pace, reader.waitUntil(), clock.now());
      if ("nextAt" in next) return Math.min(settleAt, next.nextAt);
      reader.read(next.watch);
    }
    return settleAt;
  }

  return {
    demand: index.demand,
    explain: createPendingExplainer({ ...options, index, projects: watches }).explain,
    status: () => watcherStatus(state),
    hookedProjects: () =>
      [...watches.values()]
        .filter(({ hookedAt }) => hookedAt > 0)
        .toSorted((a, b) => b.hookedAt - a.hookedAt)
        .map(({ id, path }) => ({ id, path })),
    start() {
      list.start();
      loop.start();
    },
    async stop() {
      await Promise.all([list.stop(), loop.stop(), reader.stop()]);
      index.close();
    },
    noteHook(hook) {
      applyHook(state, hook, clock.now());
      loop.wake();
    },
    wake(projectId) {
      const watch = projectId === undefined ? undefined : watches.get(projectId);
      if (watch) requestRead(watch, clock.now());
      else requestAllReads(watches, clock.now());
      loop.wake();
    },
  };
}

function applyHook({ watches, index, missed, list }: WatcherState, hook: ReceivedHook, now: number): void {
  const { projectId } = hook;
  const watch = projectId === null ? undefined : watches.get(projectId);
  missed.noteHook();
  if (watch) noteHook(watch, hook, index, now);
  else if (projectId === null) requestAllReads(watches, now);
  else list.check(projectId);
}

function requestAllReads(watches: ReadonlyMap<number, ProjectWatch>, now: number): void {
  for (const watch of watches.values()) watch.pollAt = Math.min(watch.pollAt, now);
}

function watcherStatus({ watches, index, missed, list, reader, pace }: WatcherState): WatcherStatus {
  const all = [...watches.values()];
  return {
    projects: all.length,
    due: all.filter(({ burst }) => burst !== undefined).length,
    leftAlone: index.leftAlone(),
    missedByHooks: missed.count(),
    // Projects that are known already are read even while their list is not to be had.
    canFind: reader.problem() === undefined && (list.problem() === undefined || all.length > 0),
    problems: [list.problem(), reader.problem(), pace.problem()].filter((each) => each !== undefined),
    projectProblems: [...list.problems(), ...all.flatMap(problemOf)],
  };
}

function problemOf({ id, path, problem }: ProjectWatch): ProjectProblem[] {
  return problem === undefined ? [] : [{ project: path || `project ${id}`, problem }];
}
