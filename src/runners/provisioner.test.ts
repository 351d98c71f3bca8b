import { pino } from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
import { aClaim } from "../../test/builders/job.ts";
import { usualContainers } from "../../test/builders/pool.ts";
import { createRandom } from "../../test/simulation/random.ts";
import { createManualClock } from "../base/manual-clock.ts";
import { Secret } from "../base/secret.ts";
import type { Demand, PendingJob } from "../discovery/pending-job.ts";
import { normalEgress } from "../domain/egress.ts";
import type { TagRules } from "../domain/routing.ts";
import { routeJob } from "../domain/routing.ts";
import { GitLabError } from "../gitlab/errors.ts";
import type { ApiRunner, GitLabRest, NewApiRunner } from "../gitlab/rest-api.ts";
import type { RunnerApi } from "../gitlab/runner-api.ts";
import { createStore } from "../store/create-store.ts";
import type { Store } from "../store/store.ts";
import { createRunnerProvisioner, type RunnerProvisionerOptions } from "./provisioner.ts";

const log = pino({ level: "silent" });
const kind = {
  image: "base",
  driver: "fake",
  concurrency: 10,
  egress: normalEgress("none"),
  hostLabels: {},
  containers: usualContainers,
  diskMib: 1_024,
} as const;
const rules: TagRules = {
  prefix: "firecracker",
  maxCpus: 16,
  maxMemoryMib: 65_536,
  rules: [],
  kind,
  sizeProblem: () => undefined,
};

/** GitLab's records of runners, and what may go wrong with making one. */
function createGitLab() {
  const runners = new Map<number, ApiRunner & { token: string }>();
  const running = new Set<number>();
  let next = 1;
  let loseAnswer = false;
  let refusal: GitLabError | undefined;
  const restored: [id: number, settings: object][] = [];
  const rest: Pick<
    GitLabRest,
    "createRunner" | "restoreRunner" | "runnersOf" | "deleteRunner" | "hasRunningJobs"
  > = {
    restoreRunner: async (id, settings) => void restored.push([id, settings]),
    async createRunner({ description }: NewApiRunner) {
      if (refusal) throw refusal;
      const id = next++;
      runners.set(id, { id, description, paused: false, online: true, token: `glrt-${id}` });
      if (loseAnswer)
        throw new GitLabError("gitlab_unreachable", "creating a runner: cut", { retryable: true });
      return { id, token: new Secret(`glrt-${id}`), tokenExpiresAt: null };
    },
    runnersOf: async () => [...runners.values()],
    async deleteRunner(id) {
      if (running.has(id)) throw new Error(`runner ${id} was deleted while its job runs`);
      runners.delete(id);
    },
    hasRunningJobs: async (id) => running.has(id),
  };
  const api: Pick<RunnerApi, "verify"> = {
    async verify(token) {
      const found = [...runners.values()].find((each) => each.token === token.reveal());
      if (found) return { id: found.id, tokenExpiresAt: null };
      throw new GitLabError("gitlab_wrong_token", "verifying: GitLab does not know it (403)");
    },
  };
  return {
    ...{ runners, running, restored, rest, api },
    loseAnswers(lose: boolean) {
      loseAnswer = lose;
    },
    refuse(error: GitLabError | undefined) {
      refusal = error;
    },
  };
}

function createDemand() {
  let jobs: PendingJob[] = [];
  const listeners = new Set<() => void>();
  const demand: Demand = {
    pending: () => jobs,
    find: (id) => jobs.find((job) => job.id === id),
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  return {
    demand,
    set(...wanted: [id: number, tag: string][]) {
      jobs = wanted.map(([id, tag]) => pending(id, tag));
      for (const listener of listeners) listener();
    },
  };
}

function pending(id: number, tag: string): PendingJob {
  const routing = routeJob([tag], rules);
  if (routing.kind !== "route") throw new Error(`${tag} names no machine`);
  const about = {
    project: "g/p",
    projectId: 1,
    name: "job",
    createdAt: 0,
    webUrl: "https://gitlab.example.org",
  };
  return { id, ...about, route: routing.route };
}

const small = "firecracker-1cpu-1gb";
const large = "firecracker-2cpu-4gb";
let store: Store;
let clock: ReturnType<typeof createManualClock>;
let gitlab: ReturnType<typeof createGitLab>;
let demand: ReturnType<typeof createDemand>;
let keys: number;

beforeEach(async () => {
  clock = createManualClock();
  store = await createStore({
    database: ":memory:",
    keyFile: `/tmp/fr-key-${process.pid}-${Math.random()}`,
    clock,
    log,
  });
  gitlab = createGitLab();
  demand = createDemand();
  keys = 0;
});

afterEach(() => store.close());

function startProvisioner(more: Partial<RunnerProvisionerOptions> = {}) {
  return createRunnerProvisioner({
    demand: demand.demand,
    store,
    rest: gitlab.rest as GitLabRest,
    api: gitlab.api as RunnerApi,
    scope: async () => ({ kind: "group", id: 7, path: "g" }),
    rules: () => rules,
    runnerInfo: () => undefined,
    isPolled: () => false,
    config: () => ({
      perJob: false,
      protected: false,
      keepUnused: 3_600_000,
      most: 50,
      verifyInterval: 1_200_000,
    }),
    installation: "test",
    hostname: "host",
    newKey: () => `r-${++keys}`,
    ...{ clock, random: () => 0.5, log },
    ...more,
  });
}

/** Lets the provisioner look, and time pass, until nothing changes any more. */
async function settle(times = 12): Promise<void> {
  for (let round = 0; round < times; round++) {
    await new Promise((resolve) => setTimeout(resolve, 2));
    await clock.advance(20_000);
  }
}

const names = () => [...gitlab.runners.values()].map(({ description }) => description);

test("each set of tags gets one runner with its size, and nothing is asked of one that nobody needs", async () => {
  const provisioner = startProvisioner();
  demand.set([1, small], [2, small], [3, large]);
  provisioner.start();
  await settle();

  expect(names()).toEqual([
    `FireRunner on host: ${small} [fr:test/r-1]`,
    `FireRunner on host: ${large} [fr:test/r-2]`,
  ]);
  expect([...provisioner.pools().values()].map(({ size }) => size.cpus)).toEqual([1, 2]);
  expect(provisioner.wanted(`tags:${small}`)).toBe(2);
  demand.set([3, large]);
  expect(provisioner.wanted(`tags:${small}`)).toBe(0);
  expect(provisioner.wanted("configured")).toBeUndefined();
  await provisioner.stop();
});

test("the pools of runners made before are known as soon as they are read, before anything starts", async () => {
  await startProvisioner().create([small]);
  const next = startProvisioner();

  await next.load();

  expect([...next.pools().keys()]).toEqual([`tags:${small}`]);
});

test("an unused runner is deleted after its time, but never while GitLab runs a job of it", async () => {
  const provisioner = startProvisioner();
  demand.set([1, small]);
  provisioner.start();
  await settle();
  gitlab.running.add(1);
  demand.set();
  await clock.advance(3_700_000);
  await settle();
  expect(gitlab.runners.size).toBe(1);
  expect(provisioner.wanted(`tags:${small}`)).toBe(0);

  gitlab.running.clear();
  await settle(40);

  expect(gitlab.runners.size).toBe(0);
  expect(await store.runners()).toEqual([]);
  await provisioner.stop();
});

test("a runner of a size that no host can hold any more is deleted at once", async () => {
  let hostProblem: string | undefined;
  const provisioner = startProvisioner({ rules: () => ({ ...rules, hostProblem: () => hostProblem }) });
  demand.set([1, small]);
  provisioner.start();
  await settle();
  expect(gitlab.runners.size).toBe(1);

  hostProblem = "no host has so much memory";
  demand.set();
  await settle();

  expect(gitlab.runners.size).toBe(0);
  await provisioner.stop();
});

test("a runner whose answer was lost is found by its mark, deleted and made anew", async () => {
  const provisioner = startProvisioner();
  gitlab.loseAnswers(true);
  demand.set([1, small]);
  provisioner.start();
  await settle(3);
  gitlab.loseAnswers(false);
  await settle(40);

  expect(gitlab.runners.size).toBe(1);
  const [row] = await store.runners();
  expect(row?.state).toBe("active");
  expect(names()).toEqual([`FireRunner on host: ${small} [fr:test/${row?.key}]`]);
  await provisioner.stop();
});

test("runners of a lost store are deleted, those of other installations are left", async () => {
  const base = { paused: false, online: true, token: "glrt-x" };
  gitlab.runners.set(90, { id: 90, description: "FireRunner on host: x [fr:test/r-old]", ...base });
  gitlab.runners.set(91, { id: 91, description: "FireRunner on host: x [fr:other/r-old]", ...base });
  gitlab.runners.set(92, { id: 92, description: "somebody's", ...base });
  const provisioner = startProvisioner();
  provisioner.start();
  await settle(3);

  expect([...gitlab.runners.keys()]).toEqual([91, 92]);
  await provisioner.stop();
});

test("a runner deleted by hand is made again when its token is doubted", async () => {
  const provisioner = startProvisioner();
  demand.set([1, small]);
  provisioner.start();
  await settle(3);
  gitlab.runners.clear();
  provisioner.requestRecheck(`tags:${small}`);
  await settle();

  expect(gitlab.runners.size).toBe(1);
  expect((await store.runners()).map(({ state }) => state)).toEqual(["active"]);
  await provisioner.stop();
});

test("what GitLab refuses is said in words and not repeated at once", async () => {
  const provisioner = startProvisioner();
  gitlab.refuse(
    new GitLabError("gitlab_refused", "creating a runner: Maximum number exceeded", { hint: "delete some" }),
  );
  demand.set([1, small]);
  provisioner.start();
  await settle(2);

  expect(provisioner.problem([small])).toContain("Maximum number exceeded");
  expect(provisioner.problem([small])).toContain("delete some");
  await provisioner.stop();
});

test("with one runner per job each waiting job gets its own, deleted when the job waits no more", async () => {
  const config = { protected: false, keepUnused: 3_600_000, most: 50, verifyInterval: 1_200_000 };
  const provisioner = startProvisioner({ config: () => ({ perJob: true, ...config }) });
  demand.set([1, small], [2, small]);
  provisioner.start();
  await settle();
  expect([...provisioner.pools().keys()]).toEqual(["job:1", "job:2"]);

  demand.set();
  await settle(20);

  expect(gitlab.runners.size).toBe(0);
  await provisioner.stop();
});

test("a tag that names no machine is refused when somebody asks for a runner", async () => {
  const provisioner = startProvisioner();

  await expect(provisioner.create(["firecracker-99cpu-1gb"])).rejects.toThrow(/no machine can be had/);
  expect((await provisioner.create([small])).state).toBe("active");
  expect(await provisioner.prune()).toEqual(["1 unused runner is being deleted"]);
});

test("runners made together are not verified together for ever, and each is heard of within the interval", async () => {
  const verifyInterval = 1_200_000;
  const random = createRandom(7).next;
  const heard = new Map<string, number[]>();
  const api: Pick<RunnerApi, "verify"> = {
    async verify(token) {
      heard.set(token.reveal(), [...(heard.get(token.reveal()) ?? []), clock.now()]);
      return await gitlab.api.verify(token);
    },
  };
  const provisioner = startProvisioner({ random, api: api as RunnerApi });
  const sizes = Array.from({ length: 20 }, (_, index) => index + 1);
  demand.set(...sizes.map((gib): [number, string] => [gib, `firecracker-1cpu-${gib}gb`]));
  provisioner.start();

  await settle(12 * 35);

  expect(heard.size).toBe(20);
  const later = [...heard.values()].flatMap((times) => times.slice(4));
  const atOneTime = Math.max(...[...Map.groupBy(later, (at) => at).values()].map((all) => all.length));
  expect(later.length).toBeGreaterThanOrEqual(20 * 3);
  expect(atOneTime).toBeLessThanOrEqual(5);
  for (const times of heard.values()) {
    const waits = times.slice(1).map((at, index) => at - (times[index] ?? 0));
    expect(Math.max(...waits)).toBeLessThanOrEqual(verifyInterval + 20_000);
  }
  await provisioner.stop();
});

test("a new job's runner does not wait until all others were verified", async () => {
  const calls: string[] = [];
  const rest = {
    ...gitlab.rest,
    createRunner: (runner: NewApiRunner) => {
      calls.push("create");
      return gitlab.rest.createRunner(runner);
    },
  };
  const api: Pick<RunnerApi, "verify"> = {
    async verify(token) {
      calls.push("verify");
      if (calls.length === 1) demand.set([1, small]);
      return await gitlab.api.verify(token);
    },
  };
  const before = startProvisioner();
  for (let gib = 2; gib < 40; gib++) await before.create([`firecracker-1cpu-${gib}gb`]);
  const provisioner = startProvisioner({ rest: rest as unknown as GitLabRest, api: api as RunnerApi });
  provisioner.start();
  await settle(3);

  expect(calls.filter((call) => call === "verify")).toHaveLength(39);
  expect(calls.indexOf("create")).toBeLessThanOrEqual(10);
  await provisioner.stop();
});

const limits = { protected: false, keepUnused: 3_600_000, verifyInterval: 1_200_000 };

test("a job that waits for the limit of runners gets its own as soon as another is gone", async () => {
  const provisioner = startProvisioner({ config: () => ({ ...limits, perJob: true, most: 3 }) });
  const waiting = new Set(Array.from({ length: 12 }, (_, index) => index + 1));
  const tell = () => demand.set(...[...waiting].map((id): [number, string] => [id, small]));
  tell();
  provisioner.start();
  const from = clock.now();
  // Each job is claimed as soon as its runner is there, and ends at once.
  while (waiting.size > 0 && clock.now() - from < 600_000) {
    await clock.advance(1_000);
    expect(gitlab.runners.size).toBeLessThanOrEqual(3);
    for (const pool of [...provisioner.pools().keys()].filter((name) => provisioner.wanted(name) === 1)) {
      const jobId = Number(pool.split(":")[1]);
      await store.claim(aClaim({ jobId, pool }));
      waiting.delete(jobId);
      tell();
      await store.finishJob(jobId, "canceled");
    }
  }
  expect(clock.now() - from).toBeLessThan(30_000);
  await settle(4);
  expect(gitlab.runners.size).toBe(0);
  await provisioner.stop();
});

test("of runners that are needed no more the one longest idle makes room, and people are held to the limit too", async () => {
  const provisioner = startProvisioner({ config: () => ({ ...limits, perJob: false, most: 2 }) });
  await provisioner.create([small]);
  await clock.advance(60_000);
  await provisioner.create(["firecracker-1cpu-2gb"]);
  await expect(provisioner.create([large])).rejects.toMatchObject({ code: "runner_limit" });
  demand.set([3, large]);
  provisioner.start();
  await settle(2);

  expect(names().map((name) => name.split(" ")[3])).toEqual(["firecracker-1cpu-2gb", large]);
  expect(provisioner.problem([large])).toBeUndefined();
  await provisioner.stop();
});

test("GitLab is told of a changed protection, and once after a start of what each runner is to be", async () => {
  let config = { ...limits, perJob: false, most: 50 };
  const provisioner = startProvisioner({ config: () => config });
  demand.set([1, small]);
  provisioner.start();
  await settle(4);
  expect(gitlab.restored).toEqual([]);
  config = { ...config, protected: true };
  provisioner.wake();
  await settle(4);
  await provisioner.stop();
  expect(gitlab.restored).toEqual([[1, { tags: [small], protected: true }]]);

  const next = startProvisioner({ config: () => config });
  await next.load();
  next.start();
  await settle(4);

  expect(gitlab.restored).toHaveLength(2);
  await next.stop();
});
