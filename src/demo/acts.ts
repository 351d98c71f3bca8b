import type { Job } from "@firerunner/gitlab-stand-in/model";
import type { StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import type { Clock } from "../base/clock.ts";
import type { Journal } from "./journal.ts";
import { type Expectation, WORKING_LINE } from "./pipeline.ts";
import { kill, processesNaming } from "./processes.ts";

export interface Acts {
  /** Called for every line of a job's log: does to the job what is planned for it, once its script runs. */
  onLine(job: Job, line: string): void;
  /** When the act was done to this job (epoch ms). */
  doneAt(job: Job): number | undefined;
}

export interface ActsParts {
  readonly gitlab: StandInGitLab;
  readonly journal: Journal;
  readonly expectations: Readonly<Record<string, Expectation>>;
  readonly clock: Clock;
  say(text: string): void;
}

/** The blows of the demo: a cancel in GitLab, a SIGKILL for a machine. */
export function createActs({ gitlab, journal, expectations, clock, say }: ActsParts): Acts {
  const done = new Map<Job, number>();

  async function killMachine(job: Job): Promise<void> {
    const machine = journal.machineOf(job);
    const found = machine === undefined ? [] : await processesNaming(machine);
    const [virtualMachine] = found.filter(({ command }) => /^\S*qemu-system-/.test(command));
    if (!virtualMachine)
      return say(`the process of ${job.definition.name}'s machine ${machine} was not found`);
    say(`kills machine ${machine} of ${job.definition.name}: SIGKILL to process ${virtualMachine.pid}`);
    kill(virtualMachine.pid);
  }

  return {
    onLine(job, line) {
      const act = expectations[job.definition.name]?.act;
      if (act === undefined || done.has(job) || !WORKING_LINE.test(line)) return;
      done.set(job, clock.now());
      if (act === "kill-machine") {
        killMachine(job).catch((error: Error) => say(`the machine could not be killed: ${error.message}`));
        return;
      }
      say(`cancels ${job.definition.name} in GitLab`);
      gitlab.jobs.cancel(job);
    },
    doneAt: (job) => done.get(job),
  };
}
