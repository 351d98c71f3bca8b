/**
 * What is known of the jobs that wait in GitLab and name a machine of ours: those that can be served are the demand, the others are
 * left alone with a reason. Each is recorded once, also over a restart. A job that was claimed here never comes back: GitLab gives a
 * job once, and a list that still shows it is an old one.
 */
import type { Clock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import { createListeners } from "../base/listeners.ts";
import type { Log } from "../base/log.ts";
import type { EventKind, LifecycleEvent } from "../domain/events.ts";
import { type Route, routeJob, type TagRules, type UnservableCause } from "../domain/routing.ts";
import type { ApiJob } from "../gitlab/rest-api.ts";
import type { EventStore, JobStore } from "../store/store.ts";
import type { Demand, PendingJob } from "./pending-job.ts";

/** Of one project. The oldest are kept: they come first. */
const MOST_JOBS = 5_000;

/** A job that waits in GitLab, and what becomes of it. */
interface ObservedJob {
  readonly job: ApiJob;
  readonly projectId: number;
  readonly project: string;
  readonly outcome: { readonly route: Route } | Refusal;
  /** In how many lists in a row it stood with this answer. */
  readonly reads: number;
}

/** Why a machine cannot be had: a sentence, and what is in the way. */
interface Refusal {
  readonly reason: string;
  readonly cause: UnservableCause;
}

/** A job that names a machine of ours which cannot be had. */
export interface LeftAlone extends Pick<ObservedJob, "job" | "projectId" | "project" | "reads">, Refusal {}

export interface PendingJobIndex {
  readonly demand: Demand;
  /**
   * These are all of the project's pending jobs. `isMissed` says whether a webhook should have told of a job; returned are those of
   * them that are recorded for the first time.
   */
  replace(
    project: { readonly id: number; readonly path: string },
    jobs: readonly ApiJob[],
    isMissed: (job: ApiJob) => boolean,
  ): Promise<readonly ApiJob[]>;
  /** Nothing of this project is served any more. */
  dropProject(id: number): void;
  find(jobId: number): ObservedJob | undefined;
  wasClaimed(jobId: number): boolean;
  /** Records what has become of jobs that are not listed any more; to be called now and then. */
  settle(): Promise<void>;
  /** Those that wait and are left alone, the oldest first. */
  leftAlone(): readonly LeftAlone[];
  close(): void;
}

export interface PendingJobIndexOptions {
  readonly store: Pick<JobStore, "job"> & Pick<EventStore, "events" | "note" | "onEvent">;
  readonly rules: () => TagRules;
  readonly clock: Pick<Clock, "now">;
  readonly log: Log;
}

export function createPendingJobIndex(options: PendingJobIndexOptions): PendingJobIndex {
  const { store, rules, log } = options;
  const projects = new Map<number, ReadonlyMap<number, ObservedJob>>();
  const events = createPendingJobEvents(options);
  const claims = watchClaims(store, take);
  const changes = createListeners<void>((error) => log.error({ err: error }, "demand listener failed"));
  let pending: readonly PendingJob[] | undefined;
  let leftAlone: readonly LeftAlone[] | undefined;

  function put(projectId: number, observedJobs: ReadonlyMap<number, ObservedJob>): void {
    const before = projects.get(projectId) ?? new Map<number, ObservedJob>();
    if (observedJobs.size > 0) projects.set(projectId, observedJobs);
    else projects.delete(projectId);
    leftAlone = undefined;
    if (!differs(before, observedJobs)) return;
    pending = undefined;
    changes.emit();
  }

  function take(jobId: number): void {
    events.forget(jobId);
    const found = find(jobId);
    if (found) put(found.projectId, without(projects.get(found.projectId), jobId));
  }

  const find = (jobId: number) => findIn(projects, jobId);

  const replace: PendingJobIndex["replace"] = async (project, jobs, isMissed) => {
    const seen = observe(project, jobs, rules());
    const known = projects.get(project.id);
    const ours = new Set<number>();
    for (const { job } of seen) if (!known?.has(job.id) && (await claims.has(job.id))) ours.add(job.id);
    // Claims may have come in since the list was asked for.
    const kept = seen.filter(({ job }) => !ours.has(job.id) && !claims.hasLately(job.id));
    const before = projects.get(project.id) ?? new Map<number, ObservedJob>();
    const after = new Map(kept.map((observed) => [observed.job.id, countedRead(observed, before)]));
    put(project.id, after);
    events.noteUnlisted([...before.keys()].filter((id) => !after.has(id)));
    return await events.record(kept, isMissed);
  };

  return {
    replace,
    find,
    demand: {
      pending: () => {
        pending ??= pendingOf(projects);
        return pending;
      },
      find: (jobId) => {
        const observed = find(jobId);
        return observed && toPending(observed);
      },
      onChange: changes.add,
    },
    dropProject(id) {
      for (const jobId of projects.get(id)?.keys() ?? []) events.forget(jobId);
      put(id, new Map());
    },
    wasClaimed: claims.hasLately,
    settle: () => events.settle(claims.has),
    leftAlone: () => {
      leftAlone ??= leftAloneOf(projects);
      return leftAlone;
    },
    close: claims.close,
  };
}

type ObservedJobs = ReadonlyMap<number, ReadonlyMap<number, ObservedJob>>;

function findIn(projects: ObservedJobs, jobId: number): ObservedJob | undefined {
  for (const observedJobs of projects.values()) {
    const observed = observedJobs.get(jobId);
    if (observed) return observed;
  }
  return undefined;
}

function leftAloneOf(projects: ObservedJobs): LeftAlone[] {
  return [...projects.values()]
    .flatMap((all) => [...all.values()].flatMap((observed) => toLeftAlone(observed) ?? []))
    .toSorted((a, b) => a.job.id - b.job.id);
}

function toLeftAlone({ outcome, ...about }: ObservedJob): LeftAlone | undefined {
  return "reason" in outcome ? { ...about, ...outcome } : undefined;
}

function countedRead(observed: ObservedJob, before: ReadonlyMap<number, ObservedJob>): ObservedJob {
  const last = before.get(observed.job.id);
  return last && isSame(last, observed) ? { ...observed, reads: last.reads + 1 } : observed;
}

function without(
  observedJobs: ReadonlyMap<number, ObservedJob> | undefined,
  jobId: number,
): Map<number, ObservedJob> {
  return new Map([...(observedJobs ?? [])].filter(([id]) => id !== jobId));
}

/** The jobs that name a machine of ours; oldest first, and no more than a bound. */
function observe(
  project: { readonly id: number; readonly path: string },
  jobs: readonly ApiJob[],
  rules: TagRules,
): ObservedJob[] {
  const about = { projectId: project.id, project: project.path || `project ${project.id}` };
  return jobs
    .toSorted((a, b) => a.id - b.id)
    .flatMap((job): ObservedJob[] => {
      const routing = routeJob(job.tags, rules);
      if (routing.kind === "foreign") return [];
      const { kind: _, ...outcome } = routing;
      return [{ job, ...about, outcome, reads: 1 }];
    })
    .slice(0, MOST_JOBS);
}

function toPending({ job, projectId, project, outcome }: ObservedJob): PendingJob | undefined {
  if (!("route" in outcome)) return undefined;
  const { id, name, createdAt, webUrl } = job;
  return { id, projectId, project, name, route: outcome.route, createdAt, webUrl };
}

function pendingOf(projects: ObservedJobs): PendingJob[] {
  const all = [...projects.values()].flatMap((observedJobs) => [...observedJobs.values()]);
  return all
    .map(toPending)
    .filter((job) => job !== undefined)
    .toSorted((a, b) => a.id - b.id);
}

/** Also when the rules have changed what becomes of a job. */
function differs(before: ReadonlyMap<number, ObservedJob>, after: ReadonlyMap<number, ObservedJob>): boolean {
  if (before.size !== after.size) return true;
  return [...after].some(([id, observed]) => {
    const last = before.get(id);
    return last === undefined || !isSame(last, observed);
  });
}

function isSame(one: ObservedJob, other: ObservedJob): boolean {
  return JSON.stringify(one.outcome) === JSON.stringify(other.outcome);
}

/** A job that is listed no more may just be on its way to us, or the list may be an old one. */
const GONE_AFTER_MS = 5_000;

interface PendingJobEvents {
  /**
   * Records those that are new, or left alone for another reason than before, and returns the new ones of which a webhook should
   * have recorded. What cannot be recorded now is tried again.
   */
  record(
    observedJobs: readonly ObservedJob[],
    isMissed: (job: ApiJob) => boolean,
  ): Promise<readonly ApiJob[]>;
  /** These are not listed any more. */
  noteUnlisted(jobIds: readonly number[]): void;
  /** Nothing more will be recorded of it. */
  forget(jobId: number): void;
  /** Records which of the unlisted ones wait no more. */
  settle(isOurs: (jobId: number) => Promise<boolean>): Promise<void>;
}

type RecordedKind = "job:noticed" | "job:left-alone" | "job:no-longer-pending";
const recordedKinds: readonly EventKind[] = ["job:noticed", "job:left-alone", "job:no-longer-pending"];
const NOTICED = "noticed";

function createPendingJobEvents(options: {
  readonly store: Pick<EventStore, "events" | "note">;
  readonly clock: Pick<Clock, "now">;
  readonly log: Log;
}): PendingJobEvents {
  const { store, clock, log } = options;
  /** What was recorded last: that it was noticed, or why it is left alone. */
  const recorded = new Map<number, string>();
  const unlisted = new Map<number, number>();

  /** Returns whether it is recorded for the first time. */
  async function recordOne({ job, project, outcome }: ObservedJob, isMissed: boolean): Promise<boolean> {
    const message = "reason" in outcome ? outcome.reason : NOTICED;
    const before = recorded.get(job.id) ?? (await lastRecorded(store, job.id));
    if (before !== message) {
      const about = { project, name: job.name, tags: job.tags };
      if ("reason" in outcome) {
        await store.note("job:left-alone", { jobId: job.id }, { ...about, reason: outcome.reason });
      } else {
        await store.note("job:noticed", { jobId: job.id }, { ...about, hook: !isMissed });
      }
    }
    recorded.set(job.id, message);
    return before === undefined;
  }

  return {
    async record(observedJobs, isMissed) {
      for (const { job } of observedJobs) unlisted.delete(job.id);
      const missed: ApiJob[] = [];
      try {
        for (const observed of observedJobs) {
          const wasMissed = isMissed(observed.job);
          if ((await recordOne(observed, wasMissed)) && wasMissed) missed.push(observed.job);
        }
      } catch (error) {
        log.warn({ err: describeError(error) }, "waiting jobs could not be recorded");
      }
      return missed;
    },
    noteUnlisted(jobIds) {
      for (const id of jobIds) if (recorded.has(id) && !unlisted.has(id)) unlisted.set(id, clock.now());
    },
    forget(jobId) {
      recorded.delete(jobId);
      unlisted.delete(jobId);
    },
    async settle(isOurs) {
      const gone = [...unlisted].filter(([, at]) => clock.now() - at >= GONE_AFTER_MS);
      try {
        for (const [jobId] of gone) {
          if (!(await isOurs(jobId))) await store.note("job:no-longer-pending", { jobId }, {});
          this.forget(jobId);
        }
      } catch (error) {
        log.warn({ err: describeError(error) }, "the end of a wait could not be recorded");
      }
    },
  };
}

async function lastRecorded(store: Pick<EventStore, "events">, jobId: number): Promise<string | undefined> {
  const events = await store.events({ jobId });
  const isRecorded = (event: LifecycleEvent): event is Extract<LifecycleEvent, { kind: RecordedKind }> =>
    recordedKinds.includes(event.kind);
  const last = events.findLast(isRecorded);
  if (last?.kind === "job:left-alone") return last.detail.reason;
  return last?.kind === "job:noticed" ? NOTICED : undefined;
}

/** Known without a look into the store: a list that was read before a claim may still name the job. */
const MOST_REMEMBERED = 10_000;

/** Which jobs were claimed here. GitLab gives a job once, so none of them ever waits again. */
interface ClaimedJobs {
  /** From memory: of late. */
  hasLately(jobId: number): boolean;
  has(jobId: number): Promise<boolean>;
  close(): void;
}

function watchClaims(
  store: Pick<JobStore, "job"> & Pick<EventStore, "onEvent">,
  onClaim: (jobId: number) => void,
): ClaimedJobs {
  const lately = new Set<number>();
  const close = store.onEvent(({ kind, jobId }) => {
    if (kind !== "job:claimed" || jobId === null) return;
    lately.add(jobId);
    const [oldest] = lately;
    if (lately.size > MOST_REMEMBERED && oldest !== undefined) lately.delete(oldest);
    onClaim(jobId);
  });
  return {
    hasLately: (jobId) => lately.has(jobId),
    has: async (jobId) => lately.has(jobId) || (await store.job(jobId)) !== undefined,
    close,
  };
}
