import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createStandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import { request } from "undici";
import { systemClock } from "../../src/base/clock.ts";
import { createListeners } from "../../src/base/listeners.ts";
import { silentLog } from "../../src/base/log.ts";
import type { LifecycleEvent } from "../../src/domain/events.ts";
import { createMetrics } from "../../src/telemetry/metrics/metrics.ts";
import { type BenchContext, compare, type Figure, type Row } from "../core/figure.ts";
import { type Summary, summarize } from "../core/statistics.ts";
import { startChild } from "../parts/child.ts";
import { fillStore } from "../parts/filled-store.ts";
import { createFakeInstallation, managerFile } from "../parts/installation.ts";
import type { MachineStarted, ManagerHandlers } from "../parts/manager-process.ts";
import type { Sample } from "../parts/sampler.ts";

const POOL = "small";
const MACHINES = 100;
const POOLS = 4;
const SCRAPE_MS = 5_000;
const USUAL_SCRAPE_S = 15;

interface Measured {
  readonly manyMachinesMs: readonly number[];
  readonly noMachineMs: readonly number[];
  /** All that the process did meanwhile. */
  readonly scrapeCpuMs: number;
  /** CPU for counting all of one job, a number for each turn. */
  readonly countingMs: readonly number[];
  /** CPU for each job that comes and goes, a number for each turn. */
  readonly withMetrics: readonly Churn[];
  readonly without: readonly Churn[];
}

interface Churn {
  readonly cpuMsPerJob: number;
  readonly jobsPerSecond: number;
}

export const metrics: Figure = {
  name: "metrics",
  title: "Metrics",
  about: `Scrapes over HTTP, one after the other, of a FireRunner in a process of its own with 1,000 running jobs whose machines are there; beside it with none. Then ${MACHINES} fake machines of ${POOLS} runners work off jobs of a second, in turns with metrics, which are scraped every ${SCRAPE_MS / 1_000} s, and without: CPU of the process in each turn, by the jobs that it started in that time. What metrics cost is worked out: counting the events and requests of a job, alone in a process, by the jobs of a second in these turns, and the CPU of the process during the scrapes of 1,000 machines, one in ${USUAL_SCRAPE_S} s.`,
  machines: false,
  limitMs: 300_000,
  async measure(context) {
    const form = context.quick
      ? { machines: 20, scrapes: 5, turns: 1, seconds: 2, atOnce: 8, counted: 200 }
      : { machines: 1_000, scrapes: 60, turns: 3, seconds: 15, atOnce: MACHINES, counted: 20_000 };
    const scrapes = await measureScrapes(context, form);
    const countingMs = Array.from({ length: form.turns }, () => 0);
    for (const turn of countingMs.keys()) countingMs[turn] = await countJobs(form.counted);
    const withMetrics: Churn[] = [];
    const without: Churn[] = [];
    for (let turn = 0; turn < form.turns; turn++) {
      context.progress(`jobs of a second, turn ${turn + 1} of ${form.turns}`);
      without.push(await measureChurn(context, form, false));
      withMetrics.push(await measureChurn(context, form, true));
    }
    return summarizeMetrics({ ...scrapes, countingMs, withMetrics, without });
  },
};

export function summarizeMetrics(measured: Measured): Row[] {
  const { manyMachinesMs, noMachineMs, scrapeCpuMs, countingMs, withMetrics, without } = measured;
  const jobsPerSecond = Math.max(...withMetrics.map((turn) => turn.jobsPerSecond));
  const scrapingMs = scrapeCpuMs / USUAL_SCRAPE_S;
  const cpu = (turns: readonly Churn[]): Summary => summarize(turns.map(({ cpuMsPerJob }) => cpuMsPerJob));
  return [
    compare(
      {
        what: "scrape with 1,000 machines",
        unit: "ms",
        measured: summarize(manyMachinesMs),
        promised: { of: "median", bound: "at most", value: 50 },
      },
      "without any",
      summarize(noMachineMs),
    ),
    compare(
      { what: "CPU for each job, with metrics", unit: "ms", measured: cpu(withMetrics) },
      "without",
      cpu(without),
    ),
    { what: "CPU for counting one job", unit: "ms", measured: summarize(countingMs) },
    {
      what: `CPU of metrics, ${MACHINES} machines with jobs of a second`,
      unit: "%",
      measured: summarize(countingMs.map((ms) => (ms * jobsPerSecond + scrapingMs) / 10)),
      promised: { of: "max", bound: "at most", value: 2 },
    },
  ];
}

interface Form {
  readonly machines: number;
  readonly scrapes: number;
  readonly turns: number;
  readonly seconds: number;
  /** Machines that run jobs of a second. */
  readonly atOnce: number;
  /** Jobs whose events are counted. */
  readonly counted: number;
}

async function measureScrapes(
  context: BenchContext,
  { machines, scrapes }: Form,
): Promise<Pick<Measured, "manyMachinesMs" | "noMachineMs" | "scrapeCpuMs">> {
  const gitlab = createStandInGitLab();
  await gitlab.listen();
  context.defer(() => gitlab.close());

  async function scrapeWith(live: number): Promise<{ tookMs: number[]; cpuMs: number }> {
    const directory = await mkdtemp(join(tmpdir(), "fr-bench-"));
    context.defer(() => rm(directory, { recursive: true, force: true, maxRetries: 3 }));
    const stateDirectory = join(directory, "state");
    context.progress(`${live} machines`);
    const running = await fillStore(stateDirectory, POOL, { finished: 0, live });
    const manager = startChild<ManagerHandlers, MachineStarted>(managerFile);
    context.defer(() => manager.stop());
    await manager.call("start", {
      ...{ stateDirectory, running, gitlabUrl: gitlab.url, metrics: true },
      pools: [{ name: POOL, token: "glrt-nobody-has-this-token", concurrency: machines + 100 }],
      ...{ unpaced: false, claims: false },
    });
    const url = (await manager.call("metricsUrl", undefined)) ?? "";
    const tookMs: number[] = [];
    // The first ones compile what they use.
    for (let count = 0; count < 5; count++) await scrape(url);
    await manager.call("sample", undefined);
    const startedAt = performance.now();
    for (let count = 0; count < scrapes; count++) tookMs.push(await scrape(url));
    const elapsedMs = performance.now() - startedAt;
    const { cpuPercent } = await manager.call("sample", undefined);
    await manager.stop();
    return { tookMs, cpuMs: ((cpuPercent / 100) * elapsedMs) / scrapes };
  }

  const many = await scrapeWith(machines);
  const none = await scrapeWith(0);
  return { manyMachinesMs: many.tookMs, noMachineMs: none.tookMs, scrapeCpuMs: many.cpuMs };
}

/** From the request to the last byte, in milliseconds. */
async function scrape(url: string): Promise<number> {
  const startedAt = performance.now();
  const { statusCode, body } = await request(url);
  const text = await body.text();
  if (statusCode !== 200 || !text.includes("firerunner_machines")) throw new Error(`no metrics: ${text}`);
  return performance.now() - startedAt;
}

/** CPU in milliseconds for each of so many jobs: all that is told of one, and what is asked of GitLab for it. */
async function countJobs(count: number): Promise<number> {
  const counting = createMetrics({ withCompatible: true, clock: systemClock, log: silentLog });
  const events = createListeners<LifecycleEvent>();
  await counting.watch({ jobs: async () => [], machines: async () => [], onEvent: events.add });
  const before = process.cpuUsage();
  for (let job = 1; job <= count; job++) {
    for (const event of eventsOf(job)) events.emit(event);
    for (let asked = 0; asked < 10; asked++) counting.countRequest("job_trace", 202);
  }
  const { user, system } = process.cpuUsage(before);
  counting.close();
  return (user + system) / 1_000 / count;
}

function eventsOf(jobId: number): LifecycleEvent[] {
  const machineId = `fr-${jobId}`;
  const claimed = { pool: `pool-${jobId % POOLS}`, runner: "r", name: "n", project: "p", pollMs: 1 };
  const details = {
    "job:claimed": { ...claimed, queuedMs: 100 },
    "job:starting": { machineId, attempt: 1, host: "local" },
    "machine:creating": { host: "local", driver: "qemu", cpus: 1, memoryMib: 512 },
    "machine:booting": {},
    "machine:heard": {},
    "machine:ready": {},
    "machine:busy": {},
    "job:running": { machineId },
    "egress:connected": { target: "example.org:443" },
    "job:finished": { result: "success" },
    "machine:stopping": { reason: "" },
    "machine:gone": {},
  };
  return Object.entries(details).map(
    ([kind, detail], seq) => ({ seq, at: seq * 100, kind, jobId, machineId, detail }) as LifecycleEvent,
  );
}

async function measureChurn(
  context: BenchContext,
  { atOnce, seconds }: Form,
  withMetrics: boolean,
): Promise<Churn> {
  const pools = new Array(POOLS).fill(Math.ceil(atOnce / POOLS));
  const installation = await createFakeInstallation(context, { pools, metrics: withMetrics });
  const { gitlab, manager } = installation;
  const url = await manager.call("metricsUrl", undefined);
  const over = new AbortController();
  const feeding = feed();

  /** Keeps the queue of every runner long enough that nobody waits for jobs. */
  async function feed(): Promise<void> {
    let nextScrapeAt = 0;
    while (!over.signal.aborted) {
      const pending = gitlab.jobs.all().filter(({ status }) => status === "pending").length;
      for (let job = pending; job < atOnce * 2; job++)
        await installation.addJob(job % POOLS, { runMs: 1_000 });
      if (url !== undefined && performance.now() >= nextScrapeAt) {
        nextScrapeAt = performance.now() + SCRAPE_MS;
        await scrape(url);
      }
      await sleep(100);
    }
  }

  const started = () => gitlab.jobs.all().filter(({ startedAt }) => startedAt !== undefined).length;
  // Every machine has had a job: from here on it is a steady flow.
  while (started() <= atOnce) await sleep(50);
  await manager.call("sample", undefined);
  const before = started();
  await sleep(seconds * 1_000);
  const { cpuPercent }: Sample = await manager.call("sample", undefined);
  const jobs = started() - before;
  over.abort();
  await feeding;
  await installation.stop();
  return { cpuMsPerJob: (cpuPercent * 10 * seconds) / Math.max(1, jobs), jobsPerSecond: jobs / seconds };
}
