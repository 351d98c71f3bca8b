import { setTimeout as sleep } from "node:timers/promises";
import type { Job } from "@firerunner/gitlab-stand-in/model";
import {
  type BenchContext,
  compare,
  type Figure,
  type Promised,
  type Row,
  type Unit,
} from "../core/figure.ts";
import { summarize } from "../core/statistics.ts";
import { type Child, startChild } from "../parts/child.ts";
import { createFakeInstallation, type FakeInstallation, managerFile } from "../parts/installation.ts";
import type { MachineStarted, ManagerHandlers } from "../parts/manager-process.ts";
import type { Sample } from "../parts/sampler.ts";

type Manager = Child<ManagerHandlers, MachineStarted>;

const MACHINES = 100;
const POOLS = 4;
/** Samples of the manager, and at the same moments of the same program before it is started, which does nothing. */
interface Samples {
  readonly manager: readonly Sample[];
  readonly bystander: readonly Sample[];
}

/** What GitLab lets one runner ask in a second. */
const GITLAB_PER_SECOND = 2_000 / 60;

interface Loads {
  readonly idle: Samples;
  readonly running: Samples;
  readonly churning: Samples;
  /** In each second of the churn: jobs that were claimed. */
  readonly claimsPerSecond: readonly number[];
}

export const load: Figure = {
  name: "load",
  title: `${MACHINES} machines at one time`,
  about: `FireRunner in a process of its own with ${MACHINES} fake machines, whose guests, in another process, speak the runner's protocol to their relay sockets. First idle; then every machine runs a long job that logs every 3 s; then ${POOLS} runners with 25 machines each work off a queue of jobs that end after a second. One sample every 2 s, claims every second. CPU is that of one core, all threads of the process together; the delay of the event loop is the 99th percentile within each sample, beside that of a process that does nothing at the same time (the cores are shared). GitLab allows one runner 2,000 requests a minute.`,
  machines: false,
  limitMs: 180_000,
  async measure(context) {
    const { machines, pools, seconds } = context.quick
      ? { machines: 8, pools: 2, seconds: 2 }
      : { machines: MACHINES, pools: POOLS, seconds: 24 };
    const bystander = startChild<ManagerHandlers, MachineStarted>(managerFile);
    context.defer(() => bystander.stop());
    const { idle, running } = await measureRunning(context, bystander, { machines, seconds });
    const churn = await measureChurn(context, bystander, { machines, pools, seconds });
    return summarizeLoad({ idle, running, ...churn });
  },
};

export function summarizeLoad({ idle, running, churning, claimsPerSecond }: Loads): Row[] {
  const series = (samples: readonly Sample[], of: keyof Sample) =>
    summarize(samples.map((sample) => sample[of]));
  const loads = [
    { name: "machines running", samples: running },
    { name: "jobs coming and going", samples: churning },
  ];
  const rows = (what: string, unit: Unit, of: keyof Sample, promised?: Promised): Row[] =>
    loads.map(({ name, samples }) => {
      const measured = series(samples.manager, of);
      const row = { what: `${what}, ${name}`, unit, measured, ...(promised ? { promised } : {}) };
      // Others may keep the cores busy too: what a process that wants nothing has to wait for is not the manager's doing.
      if (of === "loopDelayP99Ms") return compare(row, "a bystander's", series(samples.bystander, of));
      return compare(row, "idle", series(idle.manager, of));
    });
  return [
    compare(
      {
        what: `claims sustained by ${POOLS} runners`,
        unit: "per second",
        measured: summarize(claimsPerSecond),
      },
      "GitLab's limit for one runner",
      summarize([GITLAB_PER_SECOND]),
    ),
    ...rows("CPU of the manager", "%", "cpuPercent"),
    {
      what: "CPU of the manager for each job that comes and goes",
      unit: "ms",
      measured: summarize([cpuMsPerJob(churning.manager, claimsPerSecond)]),
    },
    ...rows("memory of the manager", "MiB", "rssMib", { of: "max", bound: "at most", value: 250 }),
    ...rows("event-loop delay", "ms", "loopDelayP99Ms", { of: "median", bound: "at most", value: 50 }),
  ];
}

/** All that it takes while jobs come and go, by the jobs of the same time. */
function cpuMsPerJob(samples: readonly Sample[], claimsPerSecond: readonly number[]): number {
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const cpuMsPerSecond = mean(samples.map(({ cpuPercent }) => cpuPercent)) * 10;
  return cpuMsPerSecond / mean(claimsPerSecond);
}

async function measureRunning(
  context: BenchContext,
  bystander: Manager,
  { machines, seconds }: { machines: number; seconds: number },
): Promise<Pick<Loads, "idle" | "running">> {
  const installation = await createFakeInstallation(context, { pools: [machines] });
  context.progress("idle");
  const idle = await takeSamples(installation, bystander, seconds);
  context.progress(`starting ${machines} jobs`);
  for (let job = 0; job < machines; job++) await installation.addJob(0, { runMs: 600_000 });
  while (countOf(installation, ({ trace }) => trace.sizeBytes > 0) < machines) await sleep(50);
  context.progress(`${machines} jobs run`);
  const running = await takeSamples(installation, bystander, seconds);
  await installation.stop();
  return { idle, running };
}

async function measureChurn(
  context: BenchContext,
  bystander: Manager,
  { machines, pools, seconds }: { machines: number; pools: number; seconds: number },
): Promise<Pick<Loads, "churning" | "claimsPerSecond">> {
  const each = Math.floor(machines / pools);
  const installation = await createFakeInstallation(context, { pools: new Array(pools).fill(each) });
  const { gitlab } = installation;
  const claimsPerSecond: number[] = [];
  let isOver = false;
  const feeding = feed();

  /** Keeps the queue of every runner long enough that nobody waits for jobs. */
  async function feed(): Promise<void> {
    while (!isOver) {
      const pending = gitlab.jobs.all().filter(({ status }) => status === "pending").length;
      for (let job = pending; job < machines * 2; job++)
        await installation.addJob(job % pools, { runMs: 1_000 });
      await sleep(100);
    }
  }

  context.progress(`jobs of a second on ${pools} runners`);
  const startedCount = () => countOf(installation, ({ startedAt }) => startedAt !== undefined);
  // Every machine has had a job: from here on it is a steady flow.
  while (startedCount() <= machines) await sleep(50);
  const counting = (async () => {
    for (let second = 0, before = startedCount(); second < seconds; second++) {
      await sleep(1_000);
      const now = startedCount();
      claimsPerSecond.push(now - before);
      before = now;
    }
  })();
  const churning = await takeSamples(installation, bystander, seconds);
  await counting;
  isOver = true;
  await feeding;
  return { churning, claimsPerSecond };
}

function countOf({ gitlab }: FakeInstallation, is: (job: Job) => boolean): number {
  return gitlab.jobs.all().filter(is).length;
}

async function takeSamples(
  { manager }: FakeInstallation,
  bystander: Manager,
  seconds: number,
): Promise<Samples> {
  const samples = { manager: [] as Sample[], bystander: [] as Sample[] };
  const sampleBoth = () => Promise.all([manager, bystander].map((each) => each.call("sample", undefined)));
  await sampleBoth();
  for (let taken = 0; taken < Math.max(1, seconds / 2); taken++) {
    await sleep(2_000);
    const [own, other] = await sampleBoth();
    if (own) samples.manager.push(own);
    if (other) samples.bystander.push(other);
  }
  return samples;
}
