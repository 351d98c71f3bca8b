import type { Job } from "@firerunner/gitlab-stand-in/model";
import type { Clock } from "../base/clock.ts";
import { formatDuration } from "../base/units.ts";

/** How far a job has come, as the demo tells it. */
export type Phase = "waiting" | "queued" | "booting" | "preparing" | "running" | "ended";

/** When a job reached each phase (epoch ms), as GitLab sees it. */
interface PhaseTimes {
  readonly queuedAt: number | undefined;
  readonly claimedAt: number | undefined;
  /** First sign of the guest at GitLab: its machine is up and has the job. */
  readonly bootedAt: number | undefined;
  /** First line of the script in the log. The runner sends its log every three seconds. */
  readonly runningAt: number | undefined;
  readonly endedAt: number | undefined;
}

export interface Timeline {
  /** To be told of every change of the job and every line of its log. */
  noteLine(job: Job, line: string): void;
  times(job: Job): PhaseTimes;
  phase(job: Job): Phase;
  /** `FireRunner: machine fr-…` in the log says which machine it is. */
  machineOf(job: Job): string | undefined;
}

const MACHINE_LINE = /^FireRunner: machine (fr-[a-z2-7]{8})\b/;

export function createTimeline(clock: Clock): Timeline {
  const runningAt = new Map<Job, number>();
  const machines = new Map<Job, string>();

  function times(job: Job): PhaseTimes {
    return {
      queuedAt: job.pendingAt,
      claimedAt: job.startedAt,
      bootedAt: job.guestSeenAt,
      runningAt: runningAt.get(job),
      endedAt: job.finishedAt,
    };
  }

  function phase(job: Job): Phase {
    const at = times(job);
    if (at.endedAt !== undefined) return "ended";
    if (at.runningAt !== undefined) return "running";
    if (at.bootedAt !== undefined) return "preparing";
    if (at.claimedAt !== undefined) return "booting";
    return at.queuedAt !== undefined ? "queued" : "waiting";
  }

  return {
    noteLine(job, line) {
      const machine = MACHINE_LINE.exec(line)?.[1];
      if (machine) machines.set(job, machine);
      // The runner echoes each command of the script before it runs it.
      const isScript = line.startsWith(`$ ${(job.definition.script[0] ?? "").split("\n")[0]}`);
      if (isScript && !runningAt.has(job)) runningAt.set(job, clock.now());
    },
    times,
    phase,
    machineOf: (job) => machines.get(job),
  };
}

/** `1.2 s` between two moments, or `–` when one of them never came. */
export function span(from: number | undefined, to: number | undefined): string {
  return from === undefined || to === undefined ? "–" : formatDuration(Math.max(0, to - from));
}
