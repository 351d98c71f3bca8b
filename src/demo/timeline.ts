/** When each job reached which phase, and what the demo does to jobs as soon as they have: cancel one, kill the machine of another. */
import type { Job } from "@firerunner/gitlab-stand-in/model";
import type { StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import type { Clock } from "../base/clock.ts";
import { formatDuration } from "../base/units.ts";
import { type Expectation, WORKING_LINE } from "./sample-project.ts";
import { kill, processesNaming } from "./workspace.ts";

/** How far a job has come, as the demo tells it. */
export type Phase = "waiting" | "queued" | "booting" | "preparing" | "running" | "ended";

/** When a job reached each phase (epoch ms), as GitLab sees it. */
interface PhaseTimes {
  readonly queuedAt: number | undefined;
  readonly claimedAt: number | undefined;
  /** FireRunner's line of its machine in the log: that is up and has the job. */
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
  const bootedAt = new Map<Job, number>();
  const runningAt = new Map<Job, number>();
  const machines = new Map<Job, string>();

  function times(job: Job): PhaseTimes {
    return {
      queuedAt: job.pendingAt,
      claimedAt: job.startedAt,
      bootedAt: bootedAt.get(job),
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
      if (machine && !bootedAt.has(job)) bootedAt.set(job, clock.now());
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

export interface Steps {
  /** Called for every line of a job's log: does to the job what is planned for it, once its script runs. */
  onLine(job: Job, line: string): void;
  /** When the step was done to this job (epoch ms). */
  doneAt(job: Job): number | undefined;
}

interface StepsOptions {
  readonly gitlab: StandInGitLab;
  readonly timeline: Timeline;
  readonly expectations: Readonly<Record<string, Expectation>>;
  readonly clock: Clock;
  say(text: string): void;
}

/** What the demo does to jobs: a cancel in GitLab, a SIGKILL for a machine. */
export function createSteps({ gitlab, timeline, expectations, clock, say }: StepsOptions): Steps {
  const done = new Map<Job, number>();

  async function killMachine(job: Job): Promise<void> {
    const machine = timeline.machineOf(job);
    const found = machine === undefined ? [] : await processesNaming(machine);
    const [virtualMachine] = found.filter(({ command }) => /^\S*qemu-system-/.test(command));
    if (!virtualMachine)
      return say(`the process of ${job.definition.name}'s machine ${machine} was not found`);
    say(`kills machine ${machine} of ${job.definition.name}: SIGKILL to process ${virtualMachine.pid}`);
    kill(virtualMachine.pid);
  }

  return {
    onLine(job, line) {
      const step = expectations[job.definition.name]?.step;
      if (step === undefined || done.has(job) || !WORKING_LINE.test(line)) return;
      done.set(job, clock.now());
      if (step === "kill-machine") {
        killMachine(job).catch((error: Error) => say(`the machine could not be killed: ${error.message}`));
        return;
      }
      say(`cancels ${job.definition.name} in GitLab`);
      gitlab.jobs.cancel(job);
    },
    doneAt: (job) => done.get(job),
  };
}
