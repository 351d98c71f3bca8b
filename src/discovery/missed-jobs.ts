import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { ApiJob } from "../gitlab/rest-api.ts";

/** A webhook may take so long: GitLab sends them from a queue. */
const PATIENCE_MS = 10_000;
/** GitLab's clock and ours may differ. */
const SKEW_MS = 5_000;

/** Counts the jobs that were found by looking although a webhook should have told of them. */
export interface MissedJobs {
  /** Whether hooks should have told of this job; `hookedAt`: when one last told of anything in its project. */
  isMissed(job: ApiJob, hookedAt: number): boolean;
  /** These were found and had been missed. Said once for as long as no hook comes. */
  add(project: string, jobs: readonly ApiJob[]): void;
  noteHook(): void;
  count(): number;
}

export function createMissedJobs(deps: {
  readonly clock: Pick<Clock, "now">;
  readonly log: Log;
  readonly expectsHooks: boolean;
}): MissedJobs {
  const { clock, log, expectsHooks } = deps;
  /** What happened while nobody listened was not missed by the hooks. */
  const since = clock.now();
  let count = 0;
  let isSaid = false;
  return {
    isMissed({ createdAt }, hookedAt) {
      const isOld = clock.now() - createdAt > PATIENCE_MS;
      return expectsHooks && isOld && createdAt > since && hookedAt < createdAt - SKEW_MS;
    },
    add(project, jobs) {
      const [first] = jobs;
      if (!first) return;
      count += jobs.length;
      if (!isSaid) log.warn({ project, jobId: first.id }, "a job was found of which no webhook had told");
      isSaid = true;
    },
    noteHook() {
      isSaid = false;
    },
    count: () => count,
  };
}
