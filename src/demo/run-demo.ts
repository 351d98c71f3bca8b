/**
 * `firerunner demo`: real jobs in real machines, with nothing but this computer. It starts a stand-in GitLab and FireRunner (`program.ts`)
 * in a directory of their own (`workspace.ts`), makes the pipelines (`sample-project.ts`), and follows each job: `timeline.ts` keeps when
 * it reached which phase, cancels one and kills the machine of another, `observer.ts` shows its log. At the end it looks for what is left
 * (`workspace.ts`) and prints a table (`summary.ts`); the exit status says whether all went as expected.
 */

import type { Pipeline } from "@firerunner/gitlab-stand-in/model";
import { settledStates } from "@firerunner/gitlab-stand-in/model";
import { createStandInGitLab, type StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import { type Clock, systemClock } from "../base/clock.ts";
import { formatDuration } from "../base/units.ts";
import { DemoError } from "./errors.ts";
import { createObserver } from "./observer.ts";
import { type Daemon, type Executable, runCommand, startDaemon } from "./program.ts";
import { type SampleImage, sampleImageName, serveSampleImage } from "./sample-image.ts";
import { IMAGES_TAG, pipelinesOf, prepareSample, type Sample } from "./sample-project.ts";
import { createScreen, type Output, type Screen } from "./screen.ts";
import { type DemoResult, formatNotices, pipelineResult, printSummary, summarize } from "./summary.ts";
import { createSteps, createTimeline } from "./timeline.ts";
import {
  createWorkspace,
  findLeftovers,
  findProcesses,
  freePort,
  killRemaining,
  type Workspace,
  writeConfig,
} from "./workspace.ts";

const MACHINE_MEMORY_MIB = 768;
/** For the engine and what jobs need in its containers. */
const CONTAINERS_MEMORY_MIB = 1_280;
/** FireRunner never gives up a request for a job that is under way: its stop takes as long as GitLab holds one. */
const LONG_POLL_MS = 3_000;
const START_LIMIT_MS = 120_000;
const DEMO_LIMIT_MS = 10 * 60_000;

export interface DemoOptions {
  /** How FireRunner itself is run: the demo tries the program as a user would. */
  readonly executable: Executable;
  /** Images shared by all runs of the demo. */
  readonly imagesDirectory: string;
  /** Short: sockets lie below it. */
  readonly temporaryDirectory: string;
  /** A repository of the user's to run instead of the demo's own jobs. */
  readonly repo?: string;
  /** Leave the run's directory (state, log, configuration) where it is. */
  readonly keep?: boolean;
  /** Print the result as JSON on `results`, and everything else on `progress`. */
  readonly json?: boolean;
  readonly results: Output;
  readonly progress: Output;
  readonly cpus: number;
  readonly freeMemoryMib: number;
  /** Ctrl-C: ends the machines, cleans up, rejects. */
  readonly signal: AbortSignal;
  readonly clock?: Clock;
}

interface DemoRun {
  readonly options: DemoOptions;
  readonly clock: Clock;
  readonly screen: Screen;
  readonly workspace: Workspace;
  readonly gitlab: StandInGitLab;
  readonly sample: Sample;
  readonly daemon: Daemon;
}

/** Runs real jobs in real machines against a stand-in GitLab. Resolves to the exit code: 0 when all went as expected. */
export async function runDemo(options: DemoOptions): Promise<number> {
  const clock = options.clock ?? systemClock;
  const { json = false } = options;
  const screen = createScreen(json ? options.progress : options.results);
  const startedAt = clock.now();
  const workspace = await createWorkspace(options.temporaryDirectory);
  const behaviour = { longPollMs: LONG_POLL_MS };
  const gitlab = createStandInGitLab({ clock, directory: workspace.gitlab, behaviour });
  let daemon: Daemon | undefined;
  let sampleImage: SampleImage | undefined;
  try {
    await gitlab.listen();
    const registry = `127.0.0.1:${await freePort()}`;
    const sample = await prepareSample(gitlab, { repo: options.repo, image: sampleImageName(registry) });
    announce(screen, gitlab, sample);
    if (pipelinesOf(sample).every(({ definition }) => definition.jobs.length === 0))
      return reportNoJobs(options, screen, sample);
    await buildImages(options, screen, sample);
    if (options.repo === undefined) sampleImage = await serveImage(options, workspace, registry);
    await configure(options, { workspace, gitlab, registry }, sample);
    daemon = await startDaemon(options.executable, workspace.configFile, workspace.logFile);
    const run = { options, clock, screen, workspace, gitlab, sample, daemon };
    await untilReady(run);
    if (sample.tagged) await installHook(run);
    const result = await perform(run);
    report(options, screen, result);
    screen.print(`took ${formatDuration(clock.now() - startedAt)}`);
    return result.ok ? 0 : 1;
  } finally {
    await sampleImage?.close();
    await cleanUp({ options, screen, workspace, gitlab, clock }, daemon);
  }
}

/** After the repository was read: a mistake there is told at once. */
async function buildImages(options: DemoOptions, screen: Screen, sample: Sample): Promise<void> {
  const { json = false, signal, imagesDirectory: directory } = options;
  screen.print("Images: built once, then taken from the cache");
  for (const variant of variantsFor(options, sample)) {
    // For a look at the program the stand-in runner does, where the official one cannot be had.
    const build = [
      "image",
      "build",
      variant,
      "--directory",
      directory,
      "--name",
      variant,
      "--runner",
      "auto",
    ];
    await runCommand(options.executable, build, { output: json ? 2 : 1, signal });
  }
}

/** Images of machines: jobs that name an image need one that runs containers. */
function variantsFor({ repo }: DemoOptions, { pooled }: Sample): ("base" | "containers")[] {
  if (repo === undefined) return ["base", "containers"];
  const isForContainers = pooled.definition.jobs.some(({ image, services }) => image || services?.length);
  return [isForContainers ? "containers" : "base"];
}

async function serveImage(
  { imagesDirectory, signal }: DemoOptions,
  { directory }: Workspace,
  registry: string,
): Promise<SampleImage> {
  const port = Number(registry.split(":")[1]);
  return await serveSampleImage({ port, imagesDirectory, image: "base", directory, signal });
}

function report({ json = false, results }: DemoOptions, screen: Screen, result: DemoResult): void {
  if (json) results.write(`${JSON.stringify(result, null, 2)}\n`);
  else printSummary(screen, result);
}

/** Of a pipeline without jobs there is nothing to run, which is no success. */
function reportNoJobs(options: DemoOptions, screen: Screen, { pooled: { definition } }: Sample): number {
  const { ok, sentence } = pipelineResult(definition, [], "skipped");
  report(options, screen, { ok, sentence, jobs: [], leftovers: [], violations: [] });
  return 1;
}

function announce(screen: Screen, gitlab: StandInGitLab, sample: Sample): void {
  const paths = pipelinesOf(sample).map(({ project }) => project.path);
  screen.print(`GitLab: a stand-in at ${gitlab.url}, project ${paths.join(" and ")}`);
  for (const line of formatNotices(sample.pooled.definition)) screen.print(line);
}

/** One runner for every job of the pool, whatever its tags; of the demo's own, one for those in images; an access token for what comes by webhook. */
async function configure(
  options: DemoOptions,
  { workspace, gitlab, registry }: Pick<DemoRun, "workspace" | "gitlab"> & { readonly registry: string },
  sample: Sample,
): Promise<void> {
  const { pooled, tagged } = sample;
  const isOwn = options.repo === undefined;
  const [image = "base"] = variantsFor(options, sample);
  const allTags = [...new Set(pooled.definition.jobs.flatMap((job) => job.tags))];
  const tags = isOwn ? allTags.filter((tag) => tag !== IMAGES_TAG) : allTags;
  await writeConfig(workspace, {
    gitlabUrl: gitlab.url,
    imagesDirectory: options.imagesDirectory,
    image,
    runnerToken: gitlab.runners.add({ tags, runUntagged: true }).token,
    memoryMib: image === "base" ? MACHINE_MEMORY_MIB : CONTAINERS_MEMORY_MIB,
    concurrency: concurrencyFor(options),
    egress: isOwn ? "none" : "internet",
    images: isOwn ? { runnerToken: gitlab.runners.add({ tags: [IMAGES_TAG] }).token, registry } : undefined,
    webhook: tagged && {
      project: tagged.project.path,
      apiToken: gitlab.tokens.add({ scopes: ["api"] }).token,
      port: await freePort(),
    },
  });
}

/** FireRunner sets its hook up in GitLab. */
async function installHook({ options, screen, workspace }: DemoRun): Promise<void> {
  screen.print("Webhook: FireRunner installs it in GitLab, whose first event will be that of the pipeline");
  const install = ["webhook", "install", "--config", workspace.configFile];
  await runCommand(options.executable, install, { output: options.json ? 2 : 1, signal: options.signal });
}

/** Machines at one time: each takes a CPU's worth of emulation, and its memory with some to spare. */
function concurrencyFor({ cpus, freeMemoryMib }: DemoOptions): number {
  const byMemory = Math.floor((freeMemoryMib * 0.8) / (MACHINE_MEMORY_MIB + 256));
  return Math.max(1, Math.min(cpus, byMemory, 4));
}

/** FireRunner is ready when it has asked for a job. */
async function untilReady(run: DemoRun): Promise<void> {
  const { screen, clock, options } = run;
  const startedAt = clock.now();
  screen.print(
    "FireRunner: starting (finds out how machines run best here; that may take a minute without KVM)",
  );
  screen.startFoot(() => [`  FireRunner starts … ${formatDuration(clock.now() - startedAt)}`]);
  try {
    await waitFor(
      run,
      () => run.gitlab.requests.some(({ route }) => route === "request-job"),
      startedAt + START_LIMIT_MS,
      "FireRunner to ask for jobs",
    );
  } finally {
    screen.stopFoot();
  }
  screen.print(
    `FireRunner: ready after ${formatDuration(clock.now() - startedAt)}, ${concurrencyFor(options)} machines at one time`,
  );
}

async function waitFor(run: DemoRun, holds: () => boolean, until: number, what: string): Promise<void> {
  const { clock, daemon, options } = run;
  while (!holds()) {
    const problem =
      daemon.ended() !== undefined
        ? new DemoError("demo_program_failed", `“firerunner start” ended with ${daemon.ended()}`)
        : clock.now() > until
          ? new DemoError("demo_timeout", `waited too long for ${what}`)
          : undefined;
    if (problem) {
      for (const line of await daemon.logTail()) run.screen.exact(line);
      throw problem;
    }
    await clock.sleep(100, options.signal);
  }
}

async function perform(run: DemoRun): Promise<DemoResult> {
  const { gitlab, clock, screen, sample, workspace, daemon, options } = run;
  const startedAt = clock.now();
  const timeline = createTimeline(clock);
  const { expectations } = sample;
  const say = (text: string) => screen.print(screen.bold(`── the demo ${text}`));
  const steps = createSteps({ gitlab, timeline, expectations, clock, say });
  const pipelines: Pipeline[] = [];
  for (const { project, definition } of pipelinesOf(sample))
    pipelines.push(await gitlab.pipelines.create(project, definition));
  const observer = createObserver({ gitlab, timeline, steps, screen, clock, startedAt });
  screen.startFoot(observer.foot);
  try {
    const limitMs = options.repo === undefined ? DEMO_LIMIT_MS : Number.POSITIVE_INFINITY;
    await waitFor(
      run,
      () => pipelines.every((each) => isOver(gitlab, each)),
      startedAt + limitMs,
      "the jobs to end",
    );
  } finally {
    screen.stopFoot();
    observer.stop();
  }
  return summarize({
    jobs: pipelines.flatMap((each) => gitlab.pipelines.jobs(each)),
    timeline,
    steps,
    expectations,
    leftovers: await stopAndFindLeftovers(workspace, daemon, clock),
    violations: gitlab.violations,
    pipelineOutcome:
      options.repo === undefined
        ? undefined
        : pipelineResult(
            sample.pooled.definition,
            pipelines.flatMap((each) => gitlab.pipelines.jobs(each)),
            pipelines.map((each) => gitlab.pipelines.status(each))[0] ?? "skipped",
          ),
  });
}

/** What is left of the machines while FireRunner still runs, and of FireRunner itself once it was told to stop. */
async function stopAndFindLeftovers(workspace: Workspace, daemon: Daemon, clock: Clock): Promise<string[]> {
  const ofMachines = await findLeftovers(workspace, daemon.pid, clock);
  const status = await daemon.stop(clock);
  const ofEnd = status === 0 ? [] : [`FireRunner ended with ${status} when it was told to stop`];
  return [...ofMachines, ...ofEnd, ...(await findProcesses(workspace))];
}

/** Nothing runs, and nothing is about to: what is left waits for somebody. */
function isOver(gitlab: StandInGitLab, pipeline: Pipeline): boolean {
  return gitlab.pipelines.jobs(pipeline).every((job) => settledStates.includes(job.status));
}

/** Ends what still runs and removes the run's directory. After a run that was broken off, jobs are canceled first. */
async function cleanUp(
  { options, screen, workspace, gitlab, clock }: Omit<DemoRun, "sample" | "daemon">,
  daemon: Daemon | undefined,
): Promise<void> {
  for (const job of gitlab.jobs.all()) gitlab.jobs.cancel(job);
  if (daemon && daemon.ended() === undefined) {
    screen.print("ending the machines and FireRunner …");
    await findLeftovers(workspace, daemon.pid, clock);
    await daemon.stop(clock);
  }
  await killRemaining(workspace);
  await gitlab.close();
  if (options.keep) screen.print(`kept: ${workspace.directory}`);
  else await workspace.remove();
}
