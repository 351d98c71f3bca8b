import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";

/** Of the jobs that a real machine runs. */
export const REAL_TAG = "real";
/** The script's own pace under emulation, and what its runner takes to send the log and the result. */
const READY_MS = 180_000;
const DONE_MS = 120_000;

/** What a program in a real machine says that it did. */
export interface RealReport {
  /** Requests, by what they were to do. */
  readonly sent: Readonly<Record<string, number>>;
  /** What the relay answered first on each connection: a status, or words where there was none. */
  readonly answered: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

export interface RealGuest {
  /** Its machine has booted and its script waits. */
  ready(): Promise<void>;
  /** Its script and its job have ended. */
  done(): Promise<RealReport>;
}

/** A job whose script is one of the hostile programs, for a machine that a hypervisor runs. */
export async function addRealGuest(gitlab: StandInGitLab, seconds: number): Promise<RealGuest> {
  const program = await readFile(join(import.meta.dirname, "real-guest.py"), "base64");
  const project = await gitlab.projects.add({ path: "group/real" });
  const job = await gitlab.addJob(project, {
    ...{ name: "real guest", tags: [REAL_TAG], variables: { GIT_STRATEGY: "none" } },
    script: [`echo ${program} | base64 -d > harm.py`, `python3 harm.py ${seconds}`],
  });
  return {
    async ready() {
      await gitlab.waitForJob(job, ({ trace }) => trace.text().includes("real guest: ready"), READY_MS);
    },
    async done() {
      await gitlab.waitForJob(job, "success", DONE_MS);
      const [, report] = /^real guest: (\{.*\})$/m.exec(job.trace.text()) ?? [];
      if (report === undefined) throw new Error(`the real guest told nothing:\n${job.trace.text()}`);
      return JSON.parse(report) as RealReport;
    },
  };
}
