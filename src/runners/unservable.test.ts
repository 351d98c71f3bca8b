import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { aManagingGitLab, type ManagingGitLab } from "../../test/builders/managing-gitlab.ts";
import { aPayload } from "../../test/builders/payload.ts";
import { tagRules } from "../../test/builders/tag-rules.ts";
import { createSimProcess, type SimProcess } from "../../test/simulation/sim-process.ts";
import { silentLog } from "../base/log.ts";
import { createManualClock, type ManualClock } from "../base/manual-clock.ts";
import { createPendingJobIndex, type PendingJobIndex } from "../discovery/pending-job-index.ts";
import type { TagRules } from "../domain/routing.ts";
import type { GitLabRest } from "../gitlab/rest-api.ts";
import type { JobRequest, RunnerApi } from "../gitlab/runner-api.ts";
import { createStore } from "../store/create-store.ts";
import type { Store } from "../store/store.ts";
import type { RunnerProvisioner } from "./provisioner.ts";
import { createRunnerProvisioner } from "./provisioner.ts";
import { createUnservable, type Unservable } from "./unservable.ts";

const huge = "firecracker-99cpu-4gb";
const small = "firecracker-1cpu-1gb";
const MINUTE_S = 60;

/** One FireRunner, from its start to its end. */
interface Life {
  readonly store: Store;
  readonly index: PendingJobIndex;
  readonly provisioner: RunnerProvisioner;
  readonly unservable: Unservable;
  readonly process: SimProcess;
}

let clock: ManualClock;
let gitlab: ManagingGitLab;
let directory: string;
/** Jobs that wait in GitLab, with their tags. */
let waiting: Map<number, { tags: string[]; projectId: number }>;
/** The runner that was given each job. */
let given: Map<number, number>;
let rules: TagRules;
let mode: "wait" | "fail";
let most: number;
let mostAtOnce: number;
let onRequest: () => void;
let lives: Life[];
let keys: number;
let inFlight: number;

beforeEach(async () => {
  clock = createManualClock();
  gitlab = aManagingGitLab(clock, 86_400_000);
  directory = await mkdtemp(join(tmpdir(), "fr-unservable-"));
  [waiting, given, lives] = [new Map(), new Map(), []];
  [rules, mode, most, mostAtOnce] = [tagRules(), "fail", 50, 0];
  [keys, inFlight] = [0, 0];
  onRequest = () => {};
});

afterEach(async () => {
  for (const { process, store } of lives) {
    process.kill();
    await store.close();
  }
  await rm(directory, { recursive: true, force: true });
});

/** GitLab gives the oldest job whose tags the runner has. */
async function requestJob({ token }: JobRequest) {
  onRequest();
  const runner = [...gitlab.runners.values()].find((each) => each.token === token.reveal());
  const found = [...waiting].find(([, job]) => job.tags.every((tag) => runner?.tags.includes(tag)));
  if (!runner || !found) return { kind: "none" } as const;
  const [id] = found;
  waiting.delete(id);
  given.set(id, runner.id);
  gitlab.busy.add(runner.id);
  const payload = aPayload({ id });
  return { kind: "job", payload, raw: JSON.stringify(payload) } as const;
}

async function begin(shouldDie: (call: string) => boolean = () => false): Promise<Life> {
  const process = createSimProcess(shouldDie);
  const files = { database: join(directory, "db"), keyFile: join(directory, "key") };
  const store = await createStore({ ...files, clock, log: silentLog });
  const guarded = process.guard(counted(store), ["onEvent"]);
  const api = process.guard({ ...gitlab.api, requestJob } as RunnerApi);
  const life = { clock: process.guard(clock, ["now"]), random: () => 0.5, log: silentLog };
  const index = createPendingJobIndex({ ...life, store: guarded, rules: () => rules });
  const provisioner = createRunnerProvisioner({
    ...{ ...life, store: guarded, api, demand: index.demand },
    rest: process.guard(gitlab.rest) as GitLabRest,
    scope: async () => ({ kind: "group", id: 7, path: "g" }),
    rules: () => rules,
    runnerInfo: () => ({}),
    isPolled: ({ jobId }) => jobId !== null && unservable.isFailing(jobId),
    config: () => ({
      ...{ perJob: false, protected: false, keepUnused: 3_600_000, most, verifyInterval: 1_200_000 },
    }),
    ...{ installation: "test", hostname: "host", newKey: () => `r-${++keys}` },
  });
  const unservable: Unservable = createUnservable({
    ...{ ...life, store: guarded, api, provisioner },
    leftAlone: index.leftAlone,
    rules: () => rules,
    runnerInfo: () => ({}),
    config: () => mode,
  });
  const begun = { store, index, provisioner, unservable, process };
  lives.push(begun);
  void provisioner.load().then(() => {
    provisioner.start();
    unservable.start();
  });
  await quiet();
  return begun;
}

/** Time must not go on while the store is at work. */
function counted(store: Store): Store {
  return new Proxy(store, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== "function" || name === "onEvent") return value;
      return async (...args: unknown[]) => {
        inFlight++;
        try {
          return await value.apply(target, args);
        } finally {
          inFlight--;
        }
      };
    },
  });
}

async function quiet(): Promise<void> {
  do {
    for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve));
  } while (inFlight > 0);
}

/** What waits in GitLab is read, as the watcher does. */
async function read({ index, process }: Life): Promise<void> {
  for (const projectId of [1, 2]) {
    const jobs = [...waiting].filter(([, job]) => job.projectId === projectId);
    const listed = jobs.map(([id, { tags }]) => {
      return { id, tags, name: "job", status: "pending", createdAt: 0, webUrl: "https://x", ref: "main" };
    });
    if (process.isAlive())
      void index.replace({ id: projectId, path: `g/p${projectId}` }, listed, () => false);
  }
  await quiet();
}

/** Seconds go by; failures are reported to GitLab, as the scheduler does. */
async function pass(life: Life, seconds: number): Promise<void> {
  for (let second = 0; second < seconds; second++) {
    await clock.advance(1_000);
    await quiet();
    const alone = [...gitlab.runners.values()].filter(({ tags }) => !tags.includes(small));
    mostAtOnce = Math.max(mostAtOnce, alone.length);
    if (!life.process.isAlive()) return;
    for (const { id, state } of await life.store.jobs({ unfinished: true })) {
      if (state !== "failing") continue;
      gitlab.busy.delete(given.get(id) ?? 0);
      await life.store.finishJob(id, "failed");
    }
  }
}

function wait(...jobs: [id: number, tags: string[], projectId?: number][]): void {
  for (const [id, tags, projectId = 1] of jobs) waiting.set(id, { tags, projectId });
}

const failedAs = (reason: string) => ({
  state: "finished",
  result: "failed",
  cause: "unservable",
  reason: expect.stringContaining(reason),
});

test("a job whose tag is too large is claimed at the second read, failed with the reason, and its runner is deleted", async () => {
  const life = await begin();
  wait([10, [huge]]);
  await read(life);
  await pass(life, MINUTE_S);
  expect(gitlab.runners.size).toBe(0);
  expect(given.size).toBe(0);

  await read(life);
  await pass(life, 30);

  expect(await life.store.job(10)).toMatchObject(failedAs("webhook.sizes.maxCpus allows 16; give the job"));
  const kinds = (await life.store.events({ jobId: 10 })).map(({ kind }) => kind);
  expect(kinds).toEqual([
    ...["job:left-alone", "runner:creating", "runner:active", "job:claimed", "job:failing", "job:finished"],
    ...["runner:retiring", "runner:gone"],
  ]);
  expect(gitlab.runners.size).toBe(0);
  expect(await life.store.runners()).toEqual([]);
  expect(gitlab.violations).toEqual([]);
});

test("by default nothing is made for it, and a reload to `fail` is enough", async () => {
  mode = "wait";
  const life = await begin();
  wait([10, [huge]]);
  for (let time = 0; time < 3; time++) await read(life);
  await pass(life, MINUTE_S);
  expect(given.size).toBe(0);

  mode = "fail";
  life.unservable.wake();
  await pass(life, 5);

  expect(await life.store.job(10)).toMatchObject(failedAs("maxCpus"));
});

test("what hosts could hold again by themselves must have stood for five minutes", async () => {
  rules = tagRules({ hostProblem: () => "no host has so much memory" });
  const life = await begin();
  wait([10, [small]]);
  await read(life);
  await read(life);
  await pass(life, 4 * MINUTE_S);
  expect(given.size).toBe(0);

  await pass(life, 2 * MINUTE_S);

  expect(await life.store.job(10)).toMatchObject(failedAs("no host has so much memory"));
});

test("five are failed for a project in a minute, two at one time, and other projects have places of their own", async () => {
  const life = await begin();
  const mine = Array.from({ length: 12 }, (_, n) => [10 + n, [`firecracker-${20 + n}cpu-1gb`]] as const);
  wait(...mine.map(([id, tags]): [number, string[]] => [id, [...tags]]), [90, ["firecracker-98cpu-1gb"], 2]);
  await read(life);
  await read(life);
  await pass(life, 50);

  const failed = [...given.keys()];
  expect(failed.filter((id) => id < 90)).toHaveLength(5);
  expect(failed).toContain(90);
  await pass(life, 3 * MINUTE_S);
  expect(given.size).toBe(13);
  expect(gitlab.runners.size).toBe(0);
  expect(gitlab.violations).toEqual([]);
});

test("two runners at one time, while GitLab gives their jobs to nobody", async () => {
  const life = await begin();
  wait([10, [huge]], [11, ["firecracker-98cpu-1gb"]], [12, ["firecracker-97cpu-1gb"]]);
  await read(life);
  await read(life);
  waiting.clear();
  await pass(life, 20);

  expect(gitlab.runners.size).toBe(2);
  expect(mostAtOnce).toBe(2);
  await pass(life, 5 * MINUTE_S);
  expect(gitlab.runners.size).toBe(0);
  expect(life.unservable.blocker(life.index.leftAlone()[0]!)).toContain("GitLab did not give it the job");
});

test("the last place for a runner is kept for jobs that can be served", async () => {
  most = 2;
  const life = await begin();
  wait([10, [huge]], [11, [small]]);
  await read(life);
  await read(life);
  await pass(life, MINUTE_S);

  expect([...gitlab.runners.values()].map(({ tags }) => tags)).toEqual([[small]]);
  expect(given.size).toBe(0);
  expect(life.unservable.blocker(life.index.leftAlone()[0]!)).toContain("webhook.runners.most");
});

test("a job with several tags waits on: its runner would be given other people's jobs", async () => {
  const life = await begin();
  wait([10, ["docker", huge]], [11, ["firecracker-2cpu-4gb", small]], [12, ["firecracker-1,5cpu-2gb"]]);
  await read(life);
  await read(life);
  await pass(life, 2 * MINUTE_S);

  expect(gitlab.runners.size).toBe(0);
  const words = life.index.leftAlone().map(life.unservable.blocker);
  expect(words).toEqual([
    expect.stringContaining("several tags"),
    expect.stringContaining("several tags"),
    expect.stringContaining("cannot give its tag to a runner"),
  ]);
});

test("another job with the same tag that GitLab gives instead is failed for what is true of it, too, and then the first", async () => {
  const life = await begin();
  wait([10, [huge]]);
  await read(life);
  await read(life);
  waiting.clear();
  wait([9, [huge]], [10, [huge]]);
  await pass(life, 10);
  expect(await life.store.job(9)).toMatchObject(failedAs("maxCpus"));
  await pass(life, 11 * MINUTE_S);

  expect(await life.store.job(10)).toMatchObject(failedAs("maxCpus"));
  expect(gitlab.runners.size).toBe(0);
});

test("a job that is canceled or taken while its runner is made is dropped", async () => {
  const life = await begin();
  gitlab.onCreateRequest = () => {
    waiting.clear();
    life.index.dropProject(1);
  };
  wait([10, [huge]]);
  await read(life);
  await read(life);
  await pass(life, MINUTE_S);

  expect((await life.store.runners({ gone: true })).map(({ pool }) => pool)).toEqual(["job:10"]);
  expect(given.size).toBe(0);
  expect(gitlab.runners.size).toBe(0);
});

test("a job that a reload makes servable is not asked for any more, and is left to its own runner", async () => {
  const life = await begin();
  gitlab.onCreateRequest = () => {
    rules = tagRules({ maxCpus: 128 });
  };
  wait([10, [huge]]);
  await read(life);
  await read(life);
  await pass(life, 5);
  await read(life);
  await pass(life, MINUTE_S);

  expect(given.size).toBe(0);
  expect(life.provisioner.wanted(`tags:${huge}`)).toBe(1);
});

test("a job that became servable while GitLab gave it is run in the size it asks for", async () => {
  const life = await begin();
  onRequest = () => {
    rules = tagRules({ maxCpus: 128 });
  };
  wait([10, [huge]]);
  await read(life);
  await read(life);
  await pass(life, 20);

  const job = await life.store.job(10);
  expect(job).toMatchObject({ state: "claimed", size: { cpus: 99, memoryMib: 4_096 }, reason: null });
  life.provisioner.wake();
  await pass(life, 20);
  expect(life.provisioner.pools().get(job?.pool ?? "")?.size.cpus).toBe(99);
  expect(gitlab.violations).toEqual([]);
});

test("killed before or after any call, the next start fails the job and deletes the runner", {
  timeout: 60_000,
}, async () => {
  const calls = "addRunner createRunner activateRunner requestJob claim hasRunningJobs retireRunner";
  const places = `${calls} deleteRunner markRunnerGone`.split(" ");
  const lost: string[] = [];
  for (let place = 1, died = ""; ; place++) {
    const id = 100 + place;
    let passed = 0;
    died = "";
    const first = await begin((call) => {
      if (!places.includes(call) || ++passed !== place) return false;
      died = call;
      return true;
    });
    wait([id, [huge]]);
    await read(first);
    await read(first);
    await pass(first, 40);
    first.process.kill();
    await first.store.close();
    lives.pop();

    const next = await begin();
    await read(next);
    await read(next);
    // GitLab ends a job of which it hears nothing, after an hour.
    if (given.has(id) && !(await next.store.job(id))) {
      lost.push(died);
      gitlab.busy.clear();
    }
    await pass(next, 4 * MINUTE_S);
    const job = await next.store.job(id);
    if (job || !lost.includes(died)) expect(job, `killed at ${died}`).toMatchObject(failedAs("maxCpus"));
    expect(gitlab.runners.size, `killed at ${died}`).toBe(0);
    expect(await next.store.runners()).toEqual([]);
    next.process.kill();
    await next.store.close();
    lives.pop();
    if (died === "") {
      expect(place).toBeGreaterThan(14);
      break;
    }
  }
  // Nobody knows of a job that GitLab gave while the process was dead.
  expect(lost.toSorted()).toEqual(["claim", "requestJob"]);
  expect(gitlab.violations).toEqual([]);
});
