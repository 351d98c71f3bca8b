import { randomBytes } from "node:crypto";
import type { Clock } from "../../../src/base/clock.ts";
import type { Job, Project, Runner } from "./model.ts";
import { isWithin } from "./projects.ts";

const HOUR_MS = 3_600_000;
const TICKABLE_FOR_MS = 3 * HOUR_MS;
const ONLINE_FOR_MS = 2 * HOUR_MS;

interface NewRunner {
  readonly tags?: readonly string[];
  readonly runUntagged?: boolean;
  readonly description?: string;
  readonly paused?: boolean;
  /** Path of the group it serves. With neither group nor project it is the instance's. */
  readonly group?: string | undefined;
  readonly project?: Project | undefined;
  /** Takes jobs of protected branches only. */
  readonly protected?: boolean;
  readonly locked?: boolean;
  readonly maximumTimeoutSeconds?: number | undefined;
  readonly maintenanceNote?: string | undefined;
  readonly creatorId?: number;
}

/** Who deletes a runner or changes its token: somebody in GitLab's pages, which no client can know of, or the client itself. */
type Actor = "somebody" | "client";

export interface Runners {
  add(options?: NewRunner): Runner;
  all(): Runner[];
  get(id: number): Runner | undefined;
  /** Deletes it. Its token is not known any more; running jobs go on. */
  remove(id: number, by?: Actor): void;
  /** Undefined also for a token that has run out. */
  byToken(token: string): Runner | undefined;
  /** The token was good once and is not any more, by the doing of somebody else than the client. */
  isTakenAway(token: string): boolean;
  /** Gives it another token; the old one is good for nothing at once. */
  resetToken(runner: Runner, by?: Actor): void;
  contact(runner: Runner, info: unknown, systemId: unknown): void;
  isOnline(runner: Runner): boolean;
  /** Nobody who is online and not paused could take this job: after an hour GitLab fails such jobs. */
  isStuck(job: Job): boolean;
  /** The value of `X-GitLab-Last-Update`: changes when there may be a job for this runner. */
  lastUpdate(runner: Runner): string;
  /** A job became pending: every runner that could take it, and has asked before, hears of it. */
  tick(job: Job): void;
  /** Job requests that are held now. */
  heldRequests(): number;
  /** Resolves when the runner's value changes, the time is up, or the signal aborts. */
  waitForChange(runner: Runner, limitMs: number, signal: AbortSignal): Promise<void>;
}

/** Tags, protection and where the runner belongs: all must fit. */
export function canRun(runner: Runner, job: Job): boolean {
  if (!serves(runner, job.project)) return false;
  if (runner.accessLevel === "ref_protected" && !job.pipeline.protectedRef) return false;
  const { tags } = job.definition;
  if (tags.length === 0) return runner.runUntagged;
  return tags.every((tag) => runner.tags.includes(tag));
}

function serves(runner: Runner, project: Project): boolean {
  if (runner.projectId !== undefined) return project.id === runner.projectId;
  return runner.groupPath === undefined || isWithin(project.path, runner.groupPath);
}

/** `tokenLifeMs` is asked for each new token; undefined: for ever. */
export function createRunners(clock: Clock, tokenLifeMs: () => number | undefined): Runners {
  const all = new Map<number, Runner>();
  const takenAway = new Set<string>();
  const polls = createPolls(clock);
  let nextId = 1;

  function expiry(): number | undefined {
    const lifeMs = tokenLifeMs();
    return lifeMs === undefined ? undefined : clock.now() + lifeMs;
  }

  function add(options: NewRunner = {}): Runner {
    const runner = newRunner(nextId++, options, clock.now(), expiry());
    all.set(runner.id, runner);
    return runner;
  }

  function holderOf(token: string): Runner | undefined {
    return [...all.values()].find((runner) => runner.token === token);
  }

  function hasRunOut({ tokenExpiresAt }: Runner): boolean {
    return tokenExpiresAt !== undefined && tokenExpiresAt <= clock.now();
  }

  function contactedWithin(runner: Runner, ms: number): boolean {
    return runner.contactedAt !== undefined && runner.contactedAt > clock.now() - ms;
  }

  return {
    add,
    all: () => [...all.values()],
    get: (id) => all.get(id),
    remove(id, by = "somebody") {
      const runner = all.get(id);
      if (!runner) return;
      if (by === "somebody") takenAway.add(runner.token);
      all.delete(id);
      polls.change(runner);
    },
    byToken(token) {
      const runner = holderOf(token);
      return runner && !hasRunOut(runner) ? runner : undefined;
    },
    isTakenAway(token) {
      const holder = holderOf(token);
      return takenAway.has(token) || (holder !== undefined && hasRunOut(holder));
    },
    resetToken(runner, by = "somebody") {
      if (by === "somebody") takenAway.add(runner.token);
      runner.token = newToken();
      runner.tokenExpiresAt = expiry();
      polls.change(runner);
    },
    contact(runner, info, systemId) {
      runner.contactedAt = clock.now();
      if (typeof info === "object" && info !== null) runner.info = info as Record<string, unknown>;
      if (typeof systemId === "string") runner.systemId = systemId;
    },
    isOnline: (runner) => contactedWithin(runner, ONLINE_FOR_MS),
    isStuck: (job) =>
      job.status === "pending" &&
      ![...all.values()].some(
        (runner) => !runner.paused && contactedWithin(runner, ONLINE_FOR_MS) && canRun(runner, job),
      ),
    lastUpdate: polls.lastUpdate,
    tick(job) {
      for (const runner of all.values())
        if (contactedWithin(runner, TICKABLE_FOR_MS) && canRun(runner, job)) polls.change(runner);
    },
    heldRequests: polls.held,
    waitForChange: polls.waitForChange,
  };
}

type Polls = Pick<Runners, "lastUpdate" | "waitForChange"> & { change(runner: Runner): void; held(): number };

/** The long polls that are held, by runner. */
function createPolls(clock: Clock): Polls {
  const updates = new Map<number, string>();
  const waiting = new Map<number, Set<() => void>>();

  function change(runner: Runner): void {
    updates.set(runner.id, randomBytes(16).toString("hex"));
    for (const wake of waiting.get(runner.id) ?? []) wake();
  }

  return {
    change,
    lastUpdate(runner) {
      if (!updates.has(runner.id)) change(runner);
      return updates.get(runner.id) ?? "";
    },
    held: () => [...waiting.values()].reduce((sum, wakers) => sum + wakers.size, 0),
    async waitForChange(runner, limitMs, signal) {
      const stop = new AbortController();
      const wakers = waiting.get(runner.id) ?? new Set();
      waiting.set(runner.id, wakers);
      const wake = () => stop.abort();
      wakers.add(wake);
      await clock.sleep(limitMs, AbortSignal.any([stop.signal, signal])).catch(() => {});
      wakers.delete(wake);
    },
  };
}

function newToken(): string {
  return `glrt-${randomBytes(15).toString("base64url")}`;
}

function newRunner(
  id: number,
  options: NewRunner,
  createdAt: number,
  tokenExpiresAt: number | undefined,
): Runner {
  return {
    id,
    token: newToken(),
    tokenExpiresAt,
    type: options.project ? "project_type" : options.group === undefined ? "instance_type" : "group_type",
    groupPath: options.group,
    projectId: options.project?.id,
    description: options.description ?? "firerunner",
    maintenanceNote: options.maintenanceNote,
    tags: options.tags ?? [],
    runUntagged: options.runUntagged ?? (options.tags ?? []).length === 0,
    locked: options.locked ?? false,
    accessLevel: options.protected ? "ref_protected" : "not_protected",
    maximumTimeoutSeconds: options.maximumTimeoutSeconds,
    paused: options.paused ?? false,
    createdAt,
    creatorId: options.creatorId,
    creationFinished: false,
    contactedAt: undefined,
    info: undefined,
    systemId: undefined,
  };
}
