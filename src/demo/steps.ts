import type { Job } from "@firerunner/gitlab-stand-in/model";
import type { StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import type { Clock } from "../base/clock.ts";
import { kill, processesNaming } from "./leftovers.ts";
import { type Expectation, WORKING_LINE } from "./sample-project.ts";
import type { Timeline } from "./timeline.ts";

export interface Steps {
  /** Called for every line of a job's log: does to the job what is planned for it, once its script runs. */
  onLine(job: Job, line: string): void;
  /** When the step was done to this job (epoch ms). */
  doneAt(job: Job): number | undefined;
}

export interface StepsOptions {
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
