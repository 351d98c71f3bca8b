/** Records of jobs that wait in GitLab: each is told once, also over a restart. */
import type { Clock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { EventKind, LifecycleEvent } from "../domain/events.ts";
import type { ApiJob } from "../gitlab/rest-api.ts";
import type { Store } from "../store/store.ts";
import type { ObservedJob } from "./pending-job-index.ts";

/** A job that is listed no more may just be on its way to us, or the list may be an old one. */
const GONE_AFTER_MS = 5_000;

export interface PendingJobEvents {
  /**
   * Records those that are new, or left alone for another reason than before, and answers the new ones of which a webhook should
   * have told. What cannot be recorded now is tried again.
   */
  tell(sightings: readonly ObservedJob[], isMissed: (job: ApiJob) => boolean): Promise<readonly ApiJob[]>;
  /** These are not listed any more. */
  vanish(jobIds: readonly number[]): void;
  /** Nothing more will be told of it. */
  forget(jobId: number): void;
  /** Records which of the vanished ones wait no more. */
  settle(isOurs: (jobId: number) => Promise<boolean>): Promise<void>;
}

type Told = "job:noticed" | "job:left-alone" | "job:no-longer-pending";
const toldKinds: readonly EventKind[] = ["job:noticed", "job:left-alone", "job:no-longer-pending"];
const NOTICED = "noticed";

export function createPendingJobEvents(options: {
  readonly store: Pick<Store, "events" | "note">;
  readonly clock: Pick<Clock, "now">;
  readonly log: Log;
}): PendingJobEvents {
  const { store, clock, log } = options;
  /** What was told last: that it was noticed, or why it is left alone. */
  const told = new Map<number, string>();
  const vanished = new Map<number, number>();

  /** Answers whether it is told of for the first time. */
  async function tellOne({ job, project, answer }: ObservedJob, isMissed: boolean): Promise<boolean> {
    const words = "reason" in answer ? answer.reason : NOTICED;
    const before = told.get(job.id) ?? (await lastTold(store, job.id));
    if (before !== words) {
      const about = { project, name: job.name, tags: job.tags };
      if ("reason" in answer) {
        await store.note("job:left-alone", { jobId: job.id }, { ...about, reason: answer.reason });
      } else {
        await store.note("job:noticed", { jobId: job.id }, { ...about, hook: !isMissed });
      }
    }
    told.set(job.id, words);
    return before === undefined;
  }

  return {
    async tell(sightings, isMissed) {
      for (const { job } of sightings) vanished.delete(job.id);
      const missed: ApiJob[] = [];
      try {
        for (const sighting of sightings) {
          const wasMissed = isMissed(sighting.job);
          if ((await tellOne(sighting, wasMissed)) && wasMissed) missed.push(sighting.job);
        }
      } catch (error) {
        log.warn({ err: describeError(error) }, "waiting jobs could not be recorded");
      }
      return missed;
    },
    vanish(jobIds) {
      for (const id of jobIds) if (told.has(id) && !vanished.has(id)) vanished.set(id, clock.now());
    },
    forget(jobId) {
      told.delete(jobId);
      vanished.delete(jobId);
    },
    async settle(isOurs) {
      const gone = [...vanished].filter(([, at]) => clock.now() - at >= GONE_AFTER_MS);
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

async function lastTold(store: Pick<Store, "events">, jobId: number): Promise<string | undefined> {
  const events = await store.events({ jobId });
  const isTold = (event: LifecycleEvent): event is Extract<LifecycleEvent, { kind: Told }> =>
    toldKinds.includes(event.kind);
  const last = events.findLast(isTold);
  if (last?.kind === "job:left-alone") return last.detail.reason;
  return last?.kind === "job:noticed" ? NOTICED : undefined;
}
