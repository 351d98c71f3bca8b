import { setTimeout as sleep } from "node:timers/promises";
import type { Job } from "@firerunner/gitlab-stand-in/model";
import { type BenchContext, compare, type Figure, type Row } from "../core/figure.ts";
import { summarize } from "../core/statistics.ts";
import { createFakeInstallation } from "../parts/installation.ts";
import { startReferenceRunner } from "../parts/reference-runner.ts";

const BUSY_JOBS = 20;
const REFERENCE = { checkIntervalMs: 3_000, tag: "reference" };

interface Waits {
  readonly oursMs: readonly number[];
  readonly referenceMs: readonly number[];
}

export const claim: Figure = {
  name: "claim",
  title: "From pending to claimed",
  about: `How long a job is pending at the stand-in GitLab before it is claimed. FireRunner runs in a process of its own on fake machines. Beside it, at the same moments, a job for a reference client that polls as the official \`gitlab-runner run\` was measured to do (check interval 3 s, long polling on; one worker on the idle installation, several on the busy one, where ${BUSY_JOBS} other jobs run). The official runner itself measured 95 to 1,745 ms in the median, depending on its settings.`,
  machines: false,
  limitMs: 240_000,
  async measure(context) {
    const count = context.quick ? 2 : 12;
    const idle = await measureWaits(context, { count, busyJobs: 0, concurrent: 1 });
    if (context.quick) return [rowOf("idle", idle)];
    const busy = await measureWaits(context, { count, busyJobs: BUSY_JOBS, concurrent: 4 });
    return summarizeClaims(idle, busy);
  },
};

export function summarizeClaims(idle: Waits, busy: Waits): Row[] {
  return [rowOf("idle", idle), rowOf(`${BUSY_JOBS} jobs running`, busy)];
}

function rowOf(load: string, { oursMs, referenceMs }: Waits): Row {
  const row = {
    what: `pending → claimed, ${load}`,
    unit: "ms",
    measured: summarize(oursMs),
    promised: { of: "median", bound: "at most", value: 50 },
  } as const;
  return compare(row, "reference client", summarize(referenceMs));
}

async function measureWaits(
  context: BenchContext,
  { count, busyJobs, concurrent }: { count: number; busyJobs: number; concurrent: number },
): Promise<Waits> {
  const installation = await createFakeInstallation(context, { pools: [1 + BUSY_JOBS] });
  const { gitlab, project } = installation;
  const reference = startReferenceRunner({
    url: gitlab.url,
    token: gitlab.runners.add({ tags: [REFERENCE.tag] }).token,
    concurrent,
    checkIntervalMs: REFERENCE.checkIntervalMs,
  });
  context.defer(() => reference.stop());
  for (let job = 0; job < busyJobs; job++) await installation.addJob(0, { runMs: 600_000 });
  const isBusy = () => gitlab.jobs.all().filter(({ status }) => status === "running").length === busyJobs;
  while (!isBusy()) await sleep(50);
  // Until the first job has been through, FireRunner is still starting.
  await gitlab.waitForJob(await installation.addJob(0, { runMs: 0 }), "success");
  const waits = { oursMs: [] as number[], referenceMs: [] as number[] };
  for (let pair = 0; pair < count; pair++) {
    context.progress(`${busyJobs > 0 ? "busy" : "idle"}, job ${pair + 1} of ${count}`);
    // Spread over more than a check interval, so that no phase of it is preferred.
    await sleep(context.quick ? 300 : 2_000 + Math.random() * 3_000);
    const ours = await installation.addJob(0, { runMs: 0 });
    const theirs = await gitlab.addJob(project, { tags: [REFERENCE.tag] });
    for (const job of [ours, theirs]) await gitlab.waitForJob(job, "success", 30_000);
    waits.oursMs.push(waitOf(ours));
    waits.referenceMs.push(waitOf(theirs));
  }
  return waits;
}

function waitOf({ pendingAt = 0, startedAt = 0 }: Job): number {
  return startedAt - pendingAt;
}
