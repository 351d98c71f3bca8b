import { setTimeout as sleep } from "node:timers/promises";
import type { Figure, Row } from "../core/figure.ts";
import { summarize } from "../core/statistics.ts";
import { createRealInstallation } from "../parts/real-installation.ts";

const JOB_LIMIT_MS = 120_000;
/** The runner of a printing script asks every 3 s; of a silent one GitLab is asked every 10 s. */
const limitsMs = { printing: 6_000, silent: 15_000 };

const scripts = {
  printing: ["echo started", "while true; do echo line; sleep 0.5; done"],
  silent: ["echo started", "sleep 600"],
};

type Times = Readonly<Record<keyof typeof scripts, readonly number[]>>;

export const cancel: Figure = {
  name: "cancel",
  title: "From canceled to gone",
  about:
    "From the cancel in GitLab to the end of the machine: process, disk, sockets and directory are gone. Real machines under emulation with the stand-in runner, two at one time, one whose script prints every half second and one whose script is silent, canceled at a random moment after their first line. The plain runner was measured at 0.8 to 57 s, depending on the job and on whether somebody watches its log.",
  machines: true,
  limitMs: 600_000,
  async measure(context) {
    const count = context.quick ? 1 : 10;
    const { here, goneMachine } = await createRealInstallation(context);
    const { gitlab } = here;
    const project = await gitlab.projects.add({ path: "group/cancel" });
    const times: Record<keyof typeof scripts, number[]> = { printing: [], silent: [] };

    async function once(kind: keyof typeof scripts): Promise<void> {
      const job = await gitlab.addJob(project, {
        script: scripts[kind],
        variables: { GIT_STRATEGY: "none" },
        timeoutSeconds: 600,
      });
      await gitlab.waitForJob(job, ({ trace }) => trace.text().includes("started\n"), JOB_LIMIT_MS);
      await sleep(Math.random() * 10_000);
      gitlab.jobs.cancel(job);
      const { goneAt } = await goneMachine(job.id);
      times[kind].push(goneAt - (job.canceledAt ?? goneAt));
    }

    for (let turn = 0; turn < count; turn++) {
      context.progress(`${turn + 1} of ${count}, two machines`);
      await Promise.all([once("printing"), once("silent")]);
    }
    return summarizeCancels(times);
  },
};

export function summarizeCancels({ printing, silent }: Times): Row[] {
  const row = (script: keyof typeof scripts, samples: readonly number[]): Row => ({
    what: `canceled → machine gone, ${script} script`,
    unit: "ms",
    measured: summarize(samples),
    promised: { of: "max", bound: "at most", value: limitsMs[script] },
  });
  return [row("printing", printing), row("silent", silent)];
}
