import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createStandInGitLab, type StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import { shellFeatures } from "@firerunner/gitlab-stand-in/test-clients";
import { Agent, request } from "undici";
import { type Child, startChild } from "../../bench/parts/child.ts";
import type { MachineStarted, ManagerHandlers } from "../../bench/parts/manager-process.ts";
import type { Sample } from "../../bench/parts/sampler.ts";
import { type HostileGitLab, startHostileGitLab } from "./gitlab.ts";
import { programs, type Victim } from "./programs.ts";
import type { ProgramsHandlers } from "./programs-process.ts";
import { addRealGuest, REAL_TAG, type RealGuest, type RealReport } from "./real-guest.ts";

const HEAP_MIB = 200;
const REFS = "/group/project.git/info/refs?service=git-upload-pack";

interface HostileReport {
  readonly seconds: number;
  /** False when the manager ended. */
  readonly isAlive: boolean;
  /** Requests that each program sent. */
  readonly sent: Readonly<Record<string, number>>;
  readonly guessesAtGitLab: number;
  /** What the program in the real machine says, and its requests that went through the relay to GitLab. */
  readonly real?: RealReport & { readonly requestsAtGitLab: number };
  readonly neighbourMs: { readonly alone: Latencies; readonly attacked: Latencies };
  readonly memoryMib: {
    readonly before: Memory;
    readonly most: Memory;
    readonly after: Memory;
  };
}

interface Latencies {
  readonly count: number;
  readonly failed: number;
  readonly p50: number;
  readonly p95: number;
  readonly max: number;
}
interface Memory {
  readonly rss: number;
  readonly held: number;
}

interface HostileOptions {
  readonly seconds: number;
  /** How long the memory may take to come back. */
  readonly restSeconds: number;
  /** Where the image `base` is; with it one guest more does harm, a job in a microVM that boots it. */
  readonly imagesDirectory?: string;
}

/** A manager in a process of its own with a small heap, ten machines whose jobs do harm, and one neighbour that is watched. */
export async function runHostile(options: HostileOptions): Promise<HostileReport> {
  const directory = await mkdtemp(join(tmpdir(), "fr-hostile-"));
  // A real machine runs as a user of its own and must be able to pass through.
  await chmod(directory, 0o711);
  const standIn = createStandInGitLab({ behaviour: { longPollMs: 3_000 } });
  await standIn.listen();
  const gitlab = await startHostileGitLab(standIn.url);
  const file = (path: string) => join(import.meta.dirname, path);
  const heap = [`--max-old-space-size=${HEAP_MIB}`, "--expose-gc"];
  const manager: Manager = startChild(file("../../bench/parts/manager-process.ts"), heap);
  const attackers = startChild<ProgramsHandlers>(file("programs-process.ts"));
  try {
    const guests = await startMachines({ manager, standIn, gitlab, directory }, options);
    return await attack({ ...guests, manager, attackers, gitlab }, options);
  } finally {
    await attackers.stop();
    await manager.stop();
    await gitlab.close();
    await standIn.close();
    await rm(directory, { recursive: true, force: true });
  }
}

type Manager = Child<ManagerHandlers, MachineStarted>;

interface Around {
  readonly manager: Manager;
  readonly standIn: StandInGitLab;
  readonly gitlab: HostileGitLab;
  readonly directory: string;
}

interface Guests {
  readonly neighbour: Victim;
  readonly victims: readonly Victim[];
  readonly real: RealGuest | undefined;
}

/** Machines in memory, each with a job that its guest has taken, and where there are images a real one. */
async function startMachines(
  { manager, standIn, gitlab, directory }: Around,
  { seconds, imagesDirectory }: HostileOptions,
): Promise<Guests> {
  const count = Object.keys(programs).length + 1;
  const started: MachineStarted[] = [];
  manager.onNews((machine) => started.push(machine));
  const { token } = standIn.runners.add({ runUntagged: true });
  const realToken = standIn.runners.add({ tags: [REAL_TAG] }).token;
  const project = await standIn.projects.add({ path: "group/project" });
  for (let index = 0; index < count; index++) await standIn.addJob(project, { name: `job ${index}` });
  const pools = [{ name: "small", token, concurrency: count }];
  const withReal = [...pools, { name: "real", token: realToken, concurrency: 1, real: true }];
  await manager.call("start", {
    gitlabUrl: gitlab.url,
    stateDirectory: join(directory, "state"),
    ...(imagesDirectory === undefined ? { pools } : { pools: withReal, imagesDirectory }),
    ...{ unpaced: false, running: [], claims: true },
  });
  while (started.length < count) await sleep(50);
  const guests = await Promise.all(started.map(({ socketPath }) => enter(socketPath)));
  const [neighbour, ...victims] = guests;
  if (neighbour === undefined) throw new Error("there is no neighbour");
  const real = imagesDirectory === undefined ? undefined : await addRealGuest(standIn, seconds);
  await real?.ready();
  return { neighbour, victims, real };
}

interface Ready extends Guests, Pick<Around, "manager" | "gitlab"> {
  readonly attackers: Child<ProgramsHandlers, never>;
}

async function attack(
  { neighbour, victims, real, manager, attackers, gitlab }: Ready,
  { seconds, restSeconds }: HostileOptions,
): Promise<HostileReport> {
  await measure(neighbour, 1_000);
  const alone = await measure(neighbour, Math.min(10_000, seconds * 500));
  await manager.call("collect", undefined);
  const before = await quietest(manager.call, 3);
  const over = new AbortController();
  const most = watchMemory(manager.call, over.signal);
  gitlab.letRealBegin();
  const [sent, attacked] = await Promise.all([
    attackers.call("attack", { victims, seconds }),
    measure(neighbour, seconds * 1_000),
  ]);
  over.abort();
  const peak = await most;
  const told = await real?.done();
  await manager.call("collect", undefined).catch(() => {});
  await sleep(restSeconds * 1_000);
  // What died meanwhile is held by nobody: a program that rests does not look for it at once.
  await manager.call("collect", undefined).catch(() => {});
  const after = await quietest(manager.call, 3);
  return {
    ...{ seconds, isAlive: after.rss > 0, sent, guessesAtGitLab: gitlab.guesses() },
    ...(told ? { real: { ...told, requestsAtGitLab: gitlab.requestsOfReal() } } : {}),
    neighbourMs: { alone, attacked },
    memoryMib: { before, most: peak, after },
  };
}

type Call = (name: "sample", argument: undefined) => Promise<Sample>;
const gone: Memory = { rss: 0, held: 0 };

async function memoryOf(call: Call): Promise<Memory> {
  const { rssMib, heldMib } = await call("sample", undefined);
  return { rss: Math.round(rssMib), held: Math.round(heldMib) };
}

/** The least of what was seen within so many seconds: what garbage was there has been collected by then. */
async function quietest(call: Call, seconds: number): Promise<Memory> {
  let least: Memory | undefined;
  for (let second = 0; second <= seconds; second++) {
    const now = await memoryOf(call).catch(() => gone);
    if (now === gone) return gone;
    least = {
      rss: Math.min(now.rss, least?.rss ?? now.rss),
      held: Math.min(now.held, least?.held ?? now.held),
    };
    await sleep(1_000);
  }
  return least ?? gone;
}

async function watchMemory(call: Call, signal: AbortSignal): Promise<Memory> {
  let most = gone;
  while (!signal.aborted) {
    const now = await memoryOf(call).catch(() => gone);
    if (now === gone) break;
    most = { rss: Math.max(now.rss, most.rss), held: Math.max(now.held, most.held) };
    await sleep(250, undefined, { signal }).catch(() => {});
  }
  return most;
}

/** What a machine's init and its runner do until they have the job. */
async function enter(socketPath: string): Promise<Victim> {
  const dispatcher = new Agent({ connect: { socketPath } });
  try {
    const boot = await (await request("http://relay/firerunner/boot", { dispatcher })).body.text();
    const token = /^token=(.*)$/m.exec(boot)?.[1] ?? "";
    const info = { name: "gitlab-runner", executor: "shell", shell: "bash", features: shellFeatures };
    const answer = await request("http://relay/api/v4/jobs/request", {
      ...{ method: "POST", dispatcher, headers: { "content-type": "application/json" } },
      body: JSON.stringify({ token, info }),
    });
    const payload = (await answer.body.json()) as { id: number; token: string };
    return { socketPath, jobId: payload.id, token: payload.token };
  } finally {
    await dispatcher.close();
  }
}

/** A well-behaved job: one request of git's after the other, with a pause between two. */
async function measure(neighbour: Victim, forMs: number): Promise<Latencies> {
  const dispatcher = new Agent({ connect: { socketPath: neighbour.socketPath } });
  const authorization = `Basic ${Buffer.from(`gitlab-ci-token:${neighbour.token}`).toString("base64")}`;
  const tookMs: number[] = [];
  let failed = 0;
  for (const endsAt = performance.now() + forMs; performance.now() < endsAt; ) {
    const startedAt = performance.now();
    const status = await ask(dispatcher, authorization).catch(() => 0);
    tookMs.push(performance.now() - startedAt);
    if (status !== 200) failed += 1;
    await sleep(50);
  }
  await dispatcher.destroy();
  const sorted = tookMs.toSorted((a, b) => a - b);
  const at = (part: number) =>
    Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0);
  return { count: sorted.length, failed, p50: at(0.5), p95: at(0.95), max: at(1) };
}

async function ask(dispatcher: Agent, authorization: string): Promise<number> {
  const answer = await request(`http://relay${REFS}`, {
    ...{ dispatcher, headers: { authorization }, signal: AbortSignal.timeout(30_000) },
  });
  await answer.body.dump();
  return answer.statusCode;
}
