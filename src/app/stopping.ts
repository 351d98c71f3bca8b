/** The orderly end: no new jobs, what GitLab may still give is taken, and running jobs have their time. Says what it waits for. */
import type { Clock } from "../base/clock.ts";
import { atMost } from "../base/deadline.ts";
import type { Log } from "../base/log.ts";
import { formatDuration } from "../base/units.ts";
import type { Claimer } from "../claiming/claimer.ts";
import type { ShutdownConfig } from "../scheduler/config.ts";
import type { Scheduler } from "../scheduler/scheduler.ts";

export interface StoppingDeps {
  readonly claimer: Pick<Claimer, "stop" | "openPolls">;
  readonly scheduler: Pick<Scheduler, "drain" | "shutDown" | "status">;
  /** What else asks GitLab for something. */
  readonly others: () => Promise<unknown> | undefined;
  readonly limits: ShutdownConfig;
  readonly clock: Clock;
  readonly log: Log;
}

/** `hurry` aborts all waiting: a second signal. */
export async function stopWork(deps: StoppingDeps, hurry: AbortSignal): Promise<void> {
  const { claimer, scheduler, others, limits, clock, log } = deps;
  const beganAt = clock.now();
  scheduler.drain();
  const asked = Promise.all([others(), claimer.stop()]);
  for (const words of waitsFor(deps)) log.info({}, words);
  await atMost(clock, limits.pollLimit, asked, hurry);
  const left = claimer.openPolls();
  // Whoever waits for them for ever is not told of by anybody else.
  asked.catch(() => {});
  if (left > 0)
    log.warn(
      { openRequests: left },
      `${requests(left)} given up before GitLab's answer: a job that it gives to one of them just now is lost, and runs there until GitLab ends it`,
    );
  await scheduler.shutDown(hurry, clock.now() - beganAt);
}

function waitsFor({ claimer, scheduler, limits }: StoppingDeps): string[] {
  const polls = claimer.openPolls();
  const jobs = scheduler.status().unfinishedJobs;
  const then =
    limits.onLimit === "end" ? "are then ended" : "then go on in their machines until the next start";
  return [
    ...(polls === 0
      ? []
      : [
          `waiting for GitLab's answer: ${requests(polls)} open that may still bring a job, for at most ${formatDuration(limits.pollLimit)} (shutdown.pollLimit)`,
        ]),
    ...(jobs === 0
      ? []
      : [
          `waiting for ${jobs} unfinished ${jobs === 1 ? "job" : "jobs"} for at most ${formatDuration(limits.drainLimit)} (shutdown.drainLimit); those left ${then}`,
        ]),
  ];
}

function requests(count: number): string {
  return count === 1 ? "1 request for jobs is" : `${count} requests for jobs are`;
}
