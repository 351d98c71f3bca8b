import { setTimeout as sleep } from "node:timers/promises";
import type { Job } from "../../src/demo/gitlab/model.ts";
import { type BenchContext, compare, type Figure, type Row } from "../core/figure.ts";
import { type Summary, summarize } from "../core/statistics.ts";
import { createFakeInstallation, type FakeInstallation } from "../parts/installation.ts";
import type { Sample } from "../parts/manager-process.ts";

const MACHINES = 100;
const POOLS = 4;
/** What GitLab lets one runner ask in a second. */
const GITLAB_PER_SECOND = 2_000 / 60;

interface Loads {
  readonly idle: readonly Sample[];
  readonly running: readonly Sample[];
  readonly churning: readonly Sample[];
  /** In each second of the churn: jobs that were claimed. */
  readonly claimsPerSecond: readonly number[];
}

export const load: Figure = {
  name: "load",
  title: `${MACHINES} machines at one time`,
  about: `FireRunner in a process of its own with ${MACHINES} fake machines, whose guests, in another process, speak the runner's protocol to their relay sockets. First idle; then every machine runs a long job that logs every 3 s; then ${POOLS} runners with 25 machines each work off a queue of jobs that end after a second. One sample every 2 s, claims every second. CPU is that of one core; the delay of the event loop is the 99th percentile within each sample. GitLab allows one runner 2,000 requests a minute.`,
  machines: false,
  limitMs: 180_000,
  async measure(context) {
    const { machines, pools, seconds } = context.quick
      ? { machines: 8, pools: 2, seconds: 2 }
      : { machines: MACHINES, pools: POOLS, seconds: 24 };
    const { idle, running } = await measureRunning(context, machines, seconds);
    const churn = await measureChurn(context, { machines, pools, seconds });
    return summarizeLoad({ idle, running, ...churn });
  },
};

export function summarizeLoad({ idle, running, churning, claimsPerSecond }: Loads): Row[] {
  const series = (samples: readonly Sample[], of: keyof Sample): Summary =>
    summarize(samples.map((sample) => sample[of]));
  const rows = (what: string, unit: Row["unit"], of: keyof Sample, promised?: Row["promised"]): Row[] => {
    const row = (load: string, samples: readonly Sample[]) =>
      compare(
        { what: `${what}, ${load}`, unit, measured: series(samples, of), ...(promised ? { promised } : {}) },
        "idle",
        series(idle, of),
      );
    return [row("machines running", running), row("jobs coming and going", churning)];
  };
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
    ...rows("memory of the manager", "MiB", "rssMib", { of: "max", bound: "at most", value: 250 }),
    ...rows("event-loop delay, 99th percentile", "ms", "loopDelayP99Ms", {
      of: "median",
      bound: "at most",
      value: 50,
    }),
  ];
}

async function measureRunning(
  context: BenchContext,
  machines: number,
  seconds: number,
): Promise<Pick<Loads, "idle" | "running">> {
  const installation = await createFakeInstallation(context, { pools: [machines] });
  context.progress("idle");
  const idle = await takeSamples(installation, seconds);
  context.progress(`starting ${machines} jobs`);
  for (let job = 0; job < machines; job++) await installation.addJob(0, { runMs: 600_000 });
  while (countOf(installation, ({ trace }) => trace.sizeBytes > 0) < machines) await sleep(50);
  context.progress(`${machines} jobs run`);
  const running = await takeSamples(installation, seconds);
  await installation.stop();
  return { idle, running };
}

async function measureChurn(
  context: BenchContext,
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
  const churning = await takeSamples(installation, seconds);
  await counting;
  isOver = true;
  await feeding;
  return { churning, claimsPerSecond };
}

function countOf({ gitlab }: FakeInstallation, is: (job: Job) => boolean): number {
  return gitlab.jobs.all().filter(is).length;
}

async function takeSamples({ manager }: FakeInstallation, seconds: number): Promise<Sample[]> {
  const samples: Sample[] = [];
  await manager.call("sample", undefined);
  for (let taken = 0; taken < Math.max(1, seconds / 2); taken++) {
    await sleep(2_000);
    samples.push(await manager.call("sample", undefined));
  }
  return samples;
}
