/**
 * What is known of the jobs that wait in GitLab and name a machine of ours: those that can be served are the demand, the others are
 * left alone with a reason. A job that was claimed here never comes back: GitLab gives a job once, and a list that still shows it is
 * an old one.
 */
import type { Clock } from "../base/clock.ts";
import { createListeners } from "../base/listeners.ts";
import type { Log } from "../base/log.ts";
import { type Route, routeJob, type TagRules } from "../domain/routing.ts";
import type { ApiJob } from "../gitlab/rest-api.ts";
import type { Store } from "../store/store.ts";
import { watchClaims } from "./claimed-jobs.ts";
import type { Demand, PendingJob } from "./demand.ts";
import { createPendingJobEvents } from "./pending-job-events.ts";

/** Of one project. The oldest are kept: they come first. */
const MOST_JOBS = 5_000;

/** A job that waits in GitLab, and what becomes of it. */
export interface ObservedJob {
  readonly job: ApiJob;
  readonly projectId: number;
  readonly project: string;
  readonly answer: { readonly route: Route } | { readonly reason: string };
  /** In how many lists in a row it stood with this answer. */
  readonly reads: number;
}

/** A job that names a machine of ours which cannot be had. */
export interface LeftAlone extends Pick<ObservedJob, "job" | "projectId" | "project" | "reads"> {
  /** In words. */
  readonly reason: string;
}

export interface PendingJobIndex {
  readonly demand: Demand;
  /**
   * These are all of the project's pending jobs. `isMissed` says whether a webhook should have told of a job; answered are those of
   * them that are told of for the first time.
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
  readonly store: Pick<Store, "job" | "events" | "note" | "onEvent">;
  readonly rules: () => TagRules;
  readonly clock: Pick<Clock, "now">;
  readonly log: Log;
}

export function createPendingJobIndex(options: PendingJobIndexOptions): PendingJobIndex {
  const { store, rules, log } = options;
  const projects = new Map<number, ReadonlyMap<number, ObservedJob>>();
  const notes = createPendingJobEvents(options);
  const claims = watchClaims(store, take);
  const changes = createListeners<void>((error) => log.error({ err: error }, "demand listener failed"));
  let pending: readonly PendingJob[] | undefined;
  let leftAlone: readonly LeftAlone[] | undefined;

  function put(projectId: number, sightings: ReadonlyMap<number, ObservedJob>): void {
    const before = projects.get(projectId) ?? new Map<number, ObservedJob>();
    if (sightings.size > 0) projects.set(projectId, sightings);
    else projects.delete(projectId);
    leftAlone = undefined;
    if (!differs(before, sightings)) return;
    pending = undefined;
    changes.emit();
  }

  function take(jobId: number): void {
    notes.forget(jobId);
    const found = find(jobId);
    if (found) put(found.projectId, without(projects.get(found.projectId), jobId));
  }

  const find = (jobId: number) => findIn(projects, jobId);

  const replace: PendingJobIndex["replace"] = async (project, jobs, isMissed) => {
    const seen = sight(project, jobs, rules());
    const known = projects.get(project.id);
    const ours = new Set<number>();
    for (const { job } of seen) if (!known?.has(job.id) && (await claims.has(job.id))) ours.add(job.id);
    // Claims may have come in since the list was asked for.
    const kept = seen.filter(({ job }) => !ours.has(job.id) && !claims.hasLately(job.id));
    const before = projects.get(project.id) ?? new Map<number, ObservedJob>();
    const after = new Map(kept.map((sighting) => [sighting.job.id, again(sighting, before)]));
    put(project.id, after);
    notes.vanish([...before.keys()].filter((id) => !after.has(id)));
    return await notes.tell(kept, isMissed);
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
        const sighting = find(jobId);
        return sighting && toPending(sighting);
      },
      onChange: changes.add,
    },
    dropProject(id) {
      for (const jobId of projects.get(id)?.keys() ?? []) notes.forget(jobId);
      put(id, new Map());
    },
    wasClaimed: claims.hasLately,
    settle: () => notes.settle(claims.has),
    leftAlone: () => {
      leftAlone ??= leftAloneOf(projects);
      return leftAlone;
    },
    close: claims.close,
  };
}

type Sightings = ReadonlyMap<number, ReadonlyMap<number, ObservedJob>>;

function findIn(projects: Sightings, jobId: number): ObservedJob | undefined {
  for (const sightings of projects.values()) {
    const sighting = sightings.get(jobId);
    if (sighting) return sighting;
  }
  return undefined;
}

function leftAloneOf(projects: Sightings): LeftAlone[] {
  return [...projects.values()]
    .flatMap((all) => [...all.values()].flatMap((sighting) => toLeftAlone(sighting) ?? []))
    .toSorted((a, b) => a.job.id - b.job.id);
}

function toLeftAlone({ answer, ...about }: ObservedJob): LeftAlone | undefined {
  return "reason" in answer ? { ...about, reason: answer.reason } : undefined;
}

function again(sighting: ObservedJob, before: ReadonlyMap<number, ObservedJob>): ObservedJob {
  const last = before.get(sighting.job.id);
  return last && isSame(last, sighting) ? { ...sighting, reads: last.reads + 1 } : sighting;
}

function without(
  sightings: ReadonlyMap<number, ObservedJob> | undefined,
  jobId: number,
): Map<number, ObservedJob> {
  return new Map([...(sightings ?? [])].filter(([id]) => id !== jobId));
}

/** The jobs that name a machine of ours; oldest first, and no more than a bound. */
function sight(
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
      const answer = routing.kind === "route" ? { route: routing.route } : { reason: routing.reason };
      return [{ job, ...about, answer, reads: 1 }];
    })
    .slice(0, MOST_JOBS);
}

function toPending({ job, projectId, project, answer }: ObservedJob): PendingJob | undefined {
  if (!("route" in answer)) return undefined;
  const { id, name, createdAt, webUrl } = job;
  return { id, projectId, project, name, route: answer.route, createdAt, webUrl };
}

function pendingOf(projects: Sightings): PendingJob[] {
  const all = [...projects.values()].flatMap((sightings) => [...sightings.values()]);
  return all
    .map(toPending)
    .filter((job) => job !== undefined)
    .toSorted((a, b) => a.id - b.id);
}

/** Also when the rules have changed what becomes of a job. */
function differs(before: ReadonlyMap<number, ObservedJob>, after: ReadonlyMap<number, ObservedJob>): boolean {
  if (before.size !== after.size) return true;
  return [...after].some(([id, sighting]) => {
    const last = before.get(id);
    return last === undefined || !isSame(last, sighting);
  });
}

function isSame(one: ObservedJob, other: ObservedJob): boolean {
  return JSON.stringify(one.answer) === JSON.stringify(other.answer);
}
