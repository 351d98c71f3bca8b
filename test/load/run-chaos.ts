/** Traffic of an hour, and everything that can go wrong meanwhile, by a seed. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describeEnvironment } from "../../bench/core/environment.ts";
import { MINUTE_MS } from "../../src/base/units.ts";
import { smallVolume } from "../builders/small-volume.ts";
import { lastLine } from "../harness/fleet-guests.ts";
import { createRandom } from "../simulation/random.ts";
import { type Fault, type FaultKind, faultKinds, scheduleFaults, wordsOf } from "./faults.ts";
import { measure } from "./holdings.ts";
import { inflict, namesFor, type Target } from "./inflict.ts";
import { createManager, untilReady } from "./manager.ts";
import { minutesAndSeconds, type Progress } from "./progress.ts";
import { type Drawn, partOf, problemsOf, type Report } from "./report.ts";
import { feed, firstWords, givenAtOf, lineOf, machinesOf, watchSite } from "./run-load.ts";
import { createSite, type LinkName } from "./site.ts";
import { until } from "./until.ts";
import { judge, leftovers } from "./verdict.ts";

export interface ChaosOptions {
  /** Of traffic. */
  readonly minutes: number;
  /** So many times faster are faults and jobs played than they would come. */
  readonly speed: number;
  readonly jobs: number;
  readonly seed: number;
  readonly workMs?: readonly [number, number];
  /** Between two faults, in milliseconds of the traffic: from, to. */
  readonly gapMs?: readonly [number, number];
  readonly lengthMs?: readonly [number, number];
  /** No other kinds of faults. */
  readonly only?: readonly FaultKind[];
  readonly logDirectory: string;
  readonly signal: AbortSignal;
}

const HOSTS = 3;
const MACHINES_PER_HOST = 16;
const VOLUME_MIB = 128;
const DRAIN_MS = 300_000;
const SAMPLES = 60;
const usualGap = [20_000, 100_000] as const;
const usualLength = [6_000, 90_000] as const;
/** Around a fault within which an answer may have been on its way. */
const MARGIN_MS = 3_000;
const hostNames = Array.from({ length: HOSTS }, (_, index) => `metal-${index + 1}`);
const linkNames: readonly LinkName[] = [
  "gitlab",
  "registry",
  "hooks",
  "guests",
  ...(hostNames as `metal-${number}`[]),
];

/** Rules that a client breaks when the network keeps answers from it: it sends again what it cannot know to have arrived. */
const tolerated = new Set(["trace-range", "heartbeat-after-end", "update-after-end", "rate-limit"]);

const rootsAlone: readonly FaultKind[] = ["disk full", "names fail"];

/** Faults on whose account an answer to a claim may not arrive. */
const ofClaims: ReadonlySet<FaultKind> = new Set([
  ...(["manager killed", "manager told to end", "manager frozen", "GitLab down", "GitLab slow"] as const),
  ...(["GitLab loses answers", "names fail", "disk full"] as const),
]);

export async function runChaos(
  options: ChaosOptions,
  progress: Progress,
): Promise<{ report: Report; drawn: Drawn }> {
  const { signal, speed, seed } = options;
  const startedAt = Date.now();
  await using cleanups = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "fr-chaos-"));
  cleanups.defer(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }));
  await mkdir(options.logDirectory, { recursive: true });
  const asRoot = process.getuid?.() === 0;
  const { only = faultKinds } = options;
  const unavailable = asRoot ? [] : rootsAlone.filter((kind) => only.includes(kind));
  const without = new Set([...faultKinds.filter((kind) => !only.includes(kind)), ...unavailable]);
  const volume = asRoot ? cleanups.use(await smallVolume(VOLUME_MIB)) : undefined;
  const state = join(volume?.path ?? directory, "state");
  const random = createRandom(seed);
  const faults = scheduleFaults(random, {
    durationMs: options.minutes * MINUTE_MS,
    gapMs: options.gapMs ?? usualGap,
    lengthMs: options.lengthMs ?? usualLength,
    ...{ links: linkNames, hosts: hostNames, without },
  });
  progress.say(`chaos: seed ${seed}, ${options.minutes} minutes of traffic at ${speed} times its pace`);
  for (const fault of faults) progress.say(lineOfFault(fault));
  const site = cleanups.use(
    await createSite({
      ...{ directory, state, hosts: HOSTS, machinesPerHost: MACHINES_PER_HOST, named: asRoot },
      random: createRandom(seed + 1).next,
      settings: settingsFor(speed),
    }),
  );
  const names = asRoot ? await ownNames(directory) : undefined;
  const manager = createManager({
    ...{ configFile: site.configFile, state, logFile: join(options.logDirectory, "chaos-manager.log") },
    ...(names ? { within: names.within } : {}),
  });
  cleanups.defer(() => manager.kill9());
  await manager.start();
  await untilReady(manager, hostNames, signal);
  const watch = watchSite(site);
  cleanups.defer(() => watch.stop());
  const beganAt = Date.now();
  const endsAt = beganAt + (options.minutes * MINUTE_MS) / speed;
  const measuring = cleanups.use(await measure(manager, (endsAt - beganAt) / SAMPLES));
  progress.show(() => lineOf("chaos", watch, endsAt));
  const target: Target = { site, manager, volume: volume?.path, hostsFile: names?.hostsFile };
  const playing = play(target, faults, { beganAt, speed, signal, progress });
  await feed(site, watch, options, endsAt);
  const done = await playing;
  progress.say("chaos: everything is well again; no more jobs come, and those that are under way end");
  const astray = (at: number) => whyAstray(done, at);
  const isUnheard = () => {
    const open = site.gitlab.jobs.all().filter(({ status }) => status === "pending" || status === "running");
    return open.every(
      ({ status, trace, startedAt = 0 }) =>
        status === "running" && trace.sizeBytes === 0 && astray(startedAt) !== undefined,
    );
  };
  const drain = { limitMs: DRAIN_MS, signal };
  // What the manager knows of is waited for; it is not what is judged.
  const isIdle = async () => {
    const known = await manager
      .daemon()
      ?.jobs()
      .catch(() => undefined);
    return known?.every(({ state }) => state === "finished") ?? false;
  };
  await until(
    async () => isUnheard() && machinesOf(site).length === 0 && (await isIdle()) && isUnheard(),
    drain,
  );
  await measuring.end();
  const durationMs = Date.now() - beganAt;
  await manager.stop();
  watch.stop();
  const left = [...machinesOf(site).map((id) => `machine ${id}`), ...leftovers(directory, state)];
  const jobs = site.gitlab.jobs.all();
  const verdict = judge({ jobs, runs: site.guests.runs, firstWords, lastWords: lastLine, astray, left });
  const part = partOf("chaos", {
    ...{ gitlab: site.gitlab, watch, verdict, durationMs },
    givenAt: givenAtOf(site),
    manager: measuring.holdings(jobs.length),
  });
  const { minutes } = options;
  const report: Report = {
    what: "chaos",
    at: new Date(startedAt).toISOString(),
    environment: await describeEnvironment(undefined),
    options: { minutes, speed, jobs: options.jobs, seed },
    parts: [part],
    faults: done.map(({ fault, fromMs, toMs, was }) => ({
      ...{ atMs: fromMs, forMs: toMs - fromMs },
      what: was ? wordsOf(fault) : `${wordsOf(fault)}: there was nothing to do it to`,
    })),
    leftOut: unavailable.map((kind) => `${kind}: only root can do that`),
    problems: problemsOf(part, tolerated),
  };
  const { moments, courses } = watch;
  return { report, drawn: { startedAt: beganAt, moments, courses, samples: measuring.samples } };
}

/** FireRunner's own limits go faster, too, where the configuration has them and a busy computer can keep them. */
function settingsFor(speed: number): Readonly<Record<string, unknown>> {
  const seconds = (usual: number, least: number) => `${Math.max(least, Math.round(usual / speed))}s`;
  return {
    scheduler: {
      silenceLimit: seconds(300, 40),
      bootDeadline: seconds(120, 30),
      standingInterval: seconds(10, 2),
      healthInterval: seconds(15, 3),
    },
    shutdown: { drainLimit: "2s", pollLimit: "15s" },
  };
}

/** The manager alone sees other names than this computer has. */
async function ownNames(directory: string) {
  const [hostsFile, resolvers] = [join(directory, "hosts"), join(directory, "resolv.conf")];
  await writeFile(hostsFile, namesFor(true));
  // Nobody answers there, and says so at once.
  await writeFile(resolvers, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
  const script = 'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$@"';
  return { hostsFile, within: ["unshare", "--mount", "sh", "-c", script, "sh", hostsFile, resolvers] };
}

interface Done {
  readonly fault: Fault;
  /** From the beginning, as it was played. */
  readonly fromMs: number;
  toMs: number;
  readonly fromAt: number;
  toAt: number;
  /** Something was there that it could be done to. */
  readonly was: boolean;
}

async function play(
  target: Target,
  faults: readonly Fault[],
  run: {
    readonly beganAt: number;
    readonly speed: number;
    readonly signal: AbortSignal;
    readonly progress: Progress;
  },
): Promise<Done[]> {
  const { beganAt, speed, signal, progress } = run;
  const done: Done[] = [];
  const healing: Promise<void>[] = [];
  for (const fault of faults) {
    await sleep(Math.max(0, beganAt + fault.atMs / speed - Date.now()), undefined, { signal });
    const fromAt = Date.now();
    const heal = await inflict(target, fault);
    const one: Done = {
      ...{ fault, fromAt, fromMs: fromAt - beganAt, was: heal !== undefined },
      ...{ toAt: Date.now(), toMs: Date.now() - beganAt },
    };
    done.push(one);
    if (!heal) continue;
    const healed = async () => {
      await sleep(fault.forMs / speed);
      await heal();
      one.toAt = Date.now();
      one.toMs = one.toAt - beganAt;
    };
    healing.push(
      healed().catch((error: unknown) => progress.say(`${wordsOf(fault)} could not be undone: ${error}`)),
    );
  }
  await Promise.all(healing);
  return done;
}

function whyAstray(done: readonly Done[], at: number): string | undefined {
  const fault = done.find(
    ({ fault: { kind, target }, fromAt, toAt }) =>
      (ofClaims.has(kind) || target === "gitlab") && at >= fromAt - MARGIN_MS && at <= toAt + MARGIN_MS,
  );
  return fault && `claimed within ${MARGIN_MS} ms of “${wordsOf(fault.fault)}”, and nothing heard since`;
}

function lineOfFault(fault: Fault): string {
  const time = minutesAndSeconds(fault.atMs).padStart(6);
  return `  ${time}  ${String(Math.round(fault.forMs / 1_000)).padStart(3)} s  ${wordsOf(fault)}`;
}
