/** Many jobs at one time, by webhook, on machines without a hypervisor; then some on real ones. */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describeEnvironment } from "../../bench/core/environment.ts";
import { MINUTE_MS } from "../../src/base/units.ts";
import { lastLine, workFor } from "../harness/fleet-guests.ts";
import { createRandom } from "../simulation/random.ts";
import { measure } from "./holdings.ts";
import { createManager, untilReady } from "./manager.ts";
import { minutesAndSeconds, type Progress } from "./progress.ts";
import { runReal } from "./real.ts";
import { type Drawn, type Part, partOf, problemsOf, type Report } from "./report.ts";
import { createSite, type Site, tags } from "./site.ts";
import { until } from "./until.ts";
import { judge, leftovers } from "./verdict.ts";
import { type Watch, watchJobs } from "./watch.ts";

export interface LoadOptions {
  readonly minutes: number;
  /** Jobs at one time. */
  readonly jobs: number;
  /** Jobs on real machines after that. */
  readonly real: number;
  readonly seed: number;
  /** How long a job works, in milliseconds: from, to. */
  readonly workMs?: readonly [number, number];
  /** Takes what the manager prints. */
  readonly logDirectory: string;
  /** Ends the run early, without a report. */
  readonly signal: AbortSignal;
}

const MACHINES_PER_HOST = 32;
/** How many jobs name an image. */
const IMAGE_CHANCE = 0.3;
const RAMP_MS = 15_000;
const DRAIN_MS = 180_000;
const SAMPLES = 60;
const usualWork = [5_000, 35_000] as const;
export const firstWords = "on fr-";

export async function runLoad(
  options: LoadOptions,
  progress: Progress,
): Promise<{ report: Report; drawn: Drawn }> {
  const startedAt = Date.now();
  const { part, drawn } = await underLoad(options, progress);
  const parts = [part];
  if (options.real > 0) parts.push(await runReal(options, progress));
  const { minutes, jobs, real, seed } = options;
  const report: Report = {
    what: "load",
    at: new Date(startedAt).toISOString(),
    environment: await describeEnvironment(real > 0 ? "tcg or KVM, whichever works" : undefined),
    options: { minutes, jobs, real, seed },
    parts,
    faults: [],
    leftOut: [],
    problems: parts.flatMap((each) => problemsOf(each)),
  };
  return { report, drawn };
}

async function underLoad(options: LoadOptions, progress: Progress): Promise<{ part: Part; drawn: Drawn }> {
  const { signal } = options;
  const drain = { limitMs: DRAIN_MS, signal };
  const directory = await mkdtemp(join(tmpdir(), "fr-load-"));
  await using cleanups = new AsyncDisposableStack();
  cleanups.defer(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }));
  await mkdir(options.logDirectory, { recursive: true });
  const state = join(directory, "state");
  const hosts = Math.ceil((options.jobs * 1.1) / MACHINES_PER_HOST);
  progress.say(`load: ${hosts} hosts with room for ${MACHINES_PER_HOST} machines each`);
  const site = cleanups.use(
    await createSite({ directory, state, hosts, machinesPerHost: MACHINES_PER_HOST }),
  );
  const logFile = join(options.logDirectory, "load-manager.log");
  const manager = createManager({ configFile: site.configFile, state, logFile });
  cleanups.defer(() => manager.kill9());
  await manager.start();
  await untilReady(manager, [...site.hosts.keys()], signal);
  const watch = watchSite(site);
  cleanups.defer(() => watch.stop());
  const startedAt = Date.now();
  const measuring = cleanups.use(await measure(manager, (options.minutes * MINUTE_MS) / SAMPLES));
  const endsAt = startedAt + options.minutes * MINUTE_MS;
  progress.show(() => lineOf("load", watch, endsAt));
  await feed(site, watch, options, endsAt);
  const durationMs = Date.now() - startedAt;
  progress.say("load: no more jobs come; those that are under way end");
  const hasEnded = await until(() => watch.openCount() === 0, drain);
  const isEmpty = await until(() => machinesOf(site).length === 0, drain);
  await measuring.end();
  await manager.stop();
  watch.stop();
  const left = [
    ...(isEmpty ? [] : machinesOf(site).map((id) => `machine ${id}`)),
    ...leftovers(directory, state),
  ];
  const jobs = site.gitlab.jobs.all();
  if (!hasEnded) progress.say("load: some jobs have not ended");
  const verdict = judge({
    ...{ jobs, runs: site.guests.runs, firstWords, lastWords: lastLine, left },
    astray: () => undefined,
  });
  const part = partOf("fake machines", {
    ...{ gitlab: site.gitlab, watch, verdict, durationMs },
    givenAt: givenAtOf(site),
    manager: measuring.holdings(jobs.length),
  });
  const { moments, courses } = watch;
  return { part, drawn: { startedAt, moments, courses, samples: measuring.samples } };
}

export function watchSite(site: Site): Watch {
  return watchJobs({
    gitlab: site.gitlab,
    runs: site.guests.runs,
    machineIds: () => machinesOf(site),
    firstWords,
  });
}

export function machinesOf({ hosts }: Pick<Site, "hosts">): string[] {
  return [...hosts.values()].flatMap((host) => host.machines().map(({ id, uid }) => id || uid));
}

export function givenAtOf({ guests }: Pick<Site, "guests">): Map<number, number> {
  // The first that was given it.
  return new Map(guests.runs.toReversed().map(({ jobId, givenAt }) => [jobId, givenAt]));
}

/** For each job that ends a new one comes, so that there are always as many. */
export async function feed(
  site: Site,
  watch: Watch,
  options: Pick<LoadOptions, "jobs" | "seed" | "workMs" | "signal">,
  endsAt: number,
): Promise<void> {
  const random = createRandom(options.seed);
  const [shortest, longest] = options.workMs ?? usualWork;
  const startedAt = Date.now();
  const rampMs = Math.min(RAMP_MS, (endsAt - startedAt) / 4);
  for (let now = startedAt; now < endsAt; now = Date.now()) {
    options.signal.throwIfAborted();
    const wanted = Math.ceil(options.jobs * Math.min(1, (now - startedAt + 1) / rampMs));
    for (let open = watch.openCount(); open < wanted; open++) {
      const script = [workFor(random.between(shortest, longest))];
      const image = random.chance(IMAGE_CHANCE) ? { image: { name: site.jobImage } } : {};
      await site.gitlab.addJob(random.pick(site.projects), { tags: [random.pick(tags)], script, ...image });
    }
    await sleep(50);
  }
}

export function lineOf(what: string, watch: Watch, endsAt: number): string {
  const { pending, running, ended } = watch.now();
  const left = minutesAndSeconds(Math.max(0, endsAt - Date.now()));
  return `${what}: ${left} left, ${running} jobs run, ${pending} wait, ${ended} have ended`;
}
