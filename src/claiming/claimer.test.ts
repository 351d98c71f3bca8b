import type { ServerResponse } from "node:http";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { aHostCapacity } from "../../test/builders/host-capacity.ts";
import { aNewMachine } from "../../test/builders/machine.ts";
import { aPayload } from "../../test/builders/payload.ts";
import { aPool } from "../../test/builders/pool.ts";
import { aSize } from "../../test/builders/size.ts";
import { aStore } from "../../test/builders/store.ts";
import { answer } from "../../test/servers/http-server.ts";
import { type JobQueueServer, startJobQueue } from "../../test/servers/job-queue.ts";
import { systemClock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { Secret } from "../base/secret.ts";
import type { Pool } from "../domain/pool.ts";
import { createGitLabHttp } from "../gitlab/http.ts";
import { createRunnerApi } from "../gitlab/runner-client.ts";
import { StoreError } from "../store/errors.ts";
import type { Claim, Store } from "../store/store.ts";
import { type Claimer, createClaimer, type Health } from "./claimer.ts";
import { ClaimingConfig } from "./config.ts";
import { createSlots } from "./slots.ts";

const tokenA = "glrt-t1_aaaaaaaaaaaaaaaa";
const tokenB = "glrt-t1_bbbbbbbbbbbbbbbb";
const size = aSize({ cpus: 1, memoryMib: 1_024 });
const poolA = aPool({ name: "a", size, runnerToken: new Secret(tokenA), concurrency: 100 });
const poolB = aPool({ name: "b", size, runnerToken: new Secret(tokenB), concurrency: 100 });

let store: Store;
let gitLab: JobQueueServer;
const open: AsyncDisposable[] = [];

beforeEach(async () => {
  const testStore = await aStore({ clock: systemClock });
  ({ store } = testStore);
  gitLab = await startJobQueue({ tokens: [tokenA, tokenB] });
  open.push(testStore, gitLab);
});
afterEach(async () => {
  for (const each of open.splice(0).toReversed()) await each[Symbol.asyncDispose]();
});

interface Setup {
  machines?: number;
  pools?: Pool[];
  config?: Partial<ClaimingConfig>;
  /** Refuses claims for as long as it answers an error. */
  claimError?: () => Error | undefined;
  server?: JobQueueServer;
}

interface Rig {
  readonly claimer: Claimer;
  readonly pools: Map<string, Pool>;
  readonly health: { value: Health };
  readonly logged: { level: string; message: string; fields: object }[];
}

function startClaimer(setup: Setup = {}): Rig {
  const { machines = 10, server = gitLab } = setup;
  const pools = new Map((setup.pools ?? [poolA]).map((pool) => [pool.name, pool]));
  const health: { value: Health } = { value: { ok: true } };
  const logged: Rig["logged"] = [];
  const http = createGitLabHttp({ url: server.url });
  const slots = createSlots({
    store,
    pools: () => pools,
    hosts: async () => [
      aHostCapacity({ capacity: { cpus: machines, memoryMib: machines * 1_024, machines } }),
    ],
    placement: "spread",
  });
  const claimer = createClaimer({
    api: createRunnerApi({ http, clock: systemClock, version: "1.2.3", systemId: "s_0123456789ab" }),
    store: {
      onEvent: (listener) => store.onEvent(listener),
      claim: async (claim: Claim) => {
        const error = setup.claimError?.();
        if (error) throw error;
        return await store.claim(claim);
      },
    },
    pools: () => pools,
    slots,
    runnerInfo: () => ({ name: "gitlab-runner" }),
    canClaim: () => health.value,
    clock: systemClock,
    log: recordingLog(logged),
    random: Math.random,
    config: { ...ClaimingConfig.parse({}), ...setup.config },
  });
  claimer.start();
  open.push({
    async [Symbol.asyncDispose]() {
      // Ends what the server still holds: a claimer never gives up a request by itself.
      await Promise.all([claimer.stop(), server[Symbol.asyncDispose]()]);
      slots.close();
      await http.dispatcher.destroy();
    },
  });
  return { claimer, pools, health, logged };
}

function recordingLog(logged: Rig["logged"]): Log {
  const at = (level: string) => (fields: object, message: string) => {
    logged.push({ level, message, fields });
  };
  const log: Log = {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: () => log,
  };
  return log;
}

async function eventually(check: () => unknown): Promise<void> {
  await vi.waitFor(check, { timeout: 10_000, interval: 5 });
}

async function claimedIds(): Promise<number[]> {
  const jobs = await store.jobs({ unfinished: true });
  return jobs.map(({ id }) => id).toSorted((a, b) => a - b);
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe("an idle installation", () => {
  test("has one request open that GitLab holds, and makes the job durable that ends it", async () => {
    startClaimer();
    await eventually(() => expect(gitLab.openRequests()).toBe(1));
    await pause(100);
    expect(gitLab.answered.map(({ status }) => status)).toEqual([204]);

    gitLab.enqueue(tokenA, 41);

    await eventually(async () => expect(await claimedIds()).toEqual([41]));
    expect(await store.job(41)).toMatchObject({
      state: "claimed",
      pool: "a",
      runner: "glrt-t1_aaaa",
      name: "build",
      stage: "test",
      project: "group/project",
      size,
      timeoutMs: 3_600_000,
    });
    expect(JSON.parse((await store.payload(41)) ?? "")).toMatchObject({
      id: 41,
      features: expect.anything(),
    });
    await eventually(() => expect(gitLab.openRequests()).toBe(1));
  });

  test("claims a job within milliseconds of its coming", async () => {
    startClaimer({ machines: 30 });
    const waits: number[] = [];

    for (let id = 1; id <= 15; id++) {
      await eventually(() => expect(gitLab.openRequests()).toBe(1));
      await pause(20);
      const queuedAt = Date.now();
      gitLab.enqueue(tokenA, id);
      await eventually(async () => expect(await store.job(id)).toBeDefined());
      waits.push(Date.now() - queuedAt);
    }

    expect(waits.toSorted((a, b) => a - b)[7]).toBeLessThan(250);
  });

  test("holds a request for each of its runners", async () => {
    const { claimer } = startClaimer({ pools: [poolA, poolB] });

    await eventually(() => {
      expect(gitLab.openRequests(tokenA)).toBe(1);
      expect(gitLab.openRequests(tokenB)).toBe(1);
    });

    expect(claimer.status()).toEqual(
      ["a", "b"].map((pool) =>
        expect.objectContaining({ pool, state: "polling", openPolls: 1, reason: undefined }),
      ),
    );
  });
});

describe("a burst of jobs", () => {
  test("is taken with parallel requests, and none beyond the slots", async () => {
    const server = await startJobQueue({ tokens: [tokenA], answerMs: 20 });
    startClaimer({ server, machines: 10, config: { parallelPolls: 4 } });
    await eventually(() => expect(server.answered).toHaveLength(1));

    server.enqueue(tokenA, ...Array.from({ length: 25 }, (_, index) => index + 1));

    await eventually(async () => expect(await claimedIds()).toHaveLength(10));
    await pause(100);
    expect(server.given).toHaveLength(10);
    // A busy computer may not get to open all four before the first is answered.
    expect(server.mostOpen()).toBeGreaterThan(1);
    expect(server.mostOpen()).toBeLessThanOrEqual(4);
    expect(server.openRequests()).toBe(0);
  });

  test("goes on as soon as a slot is free", async () => {
    const { claimer } = startClaimer({ machines: 2 });
    gitLab.enqueue(tokenA, 1, 2, 3);
    await eventually(async () => expect(await claimedIds()).toEqual([1, 2]));
    await eventually(() => expect(claimer.status()[0]?.reason).toContain("2 of 2 machines"));

    await store.finishJob(1, "canceled");

    await eventually(async () => expect(await claimedIds()).toEqual([2, 3]));
  });

  test("waits for the machine of a finished job to be gone", async () => {
    startClaimer({ machines: 1 });
    gitLab.enqueue(tokenA, 1, 2);
    await eventually(async () => expect(await claimedIds()).toEqual([1]));
    const machine = aNewMachine({ size });
    await store.startJob(1, machine);
    await store.finishJob(1, "success");
    await pause(100);
    expect(gitLab.given).toHaveLength(1);

    await store.stopMachine(machine.id, "its job has ended");
    await store.markGone(machine.id);

    await eventually(async () => expect(await claimedIds()).toEqual([2]));
  });
});

describe("when the capacity does not cover every pool", () => {
  test("runners ask in turn, are never held, and get the slots by turns", async () => {
    startClaimer({ machines: 1, pools: [poolA, poolB], config: { turnInterval: 50 } });
    gitLab.enqueue(tokenA, 1, 2, 3);
    gitLab.enqueue(tokenB, 11, 12, 13);

    for (let round = 0; round < 6; round++) {
      await eventually(async () => expect(await claimedIds()).toHaveLength(1));
      const [id = 0] = await claimedIds();
      await store.finishJob(id, "success");
    }

    expect(gitLab.given.map(({ token }) => token)).toEqual([tokenA, tokenB, tokenA, tokenB, tokenA, tokenB]);
    expect(gitLab.mostOpen()).toBe(1);
  });

  test("requests stay few", async () => {
    startClaimer({ machines: 1, pools: [poolA, poolB], config: { turnInterval: 200 } });

    await pause(1_100);

    expect(gitLab.answered.every(({ held }) => !held)).toBe(true);
    expect(gitLab.answered.length).toBeGreaterThanOrEqual(4);
    expect(gitLab.answered.length).toBeLessThanOrEqual(14);
  });

  test("a pool that can never fit does not hold up the others", async () => {
    const huge = { ...poolB, size: aSize({ cpus: 64, memoryMib: 1_024 }) };
    const { claimer } = startClaimer({ machines: 2, pools: [poolA, huge] });

    await eventually(() => expect(gitLab.openRequests(tokenA)).toBe(1));
    await pause(50);

    expect(gitLab.openRequests(tokenA)).toBe(1);
    expect(claimer.status()[1]).toMatchObject({ pool: "b", state: "waiting" });
    expect(claimer.status()[1]?.reason).toContain("never fits");
  });
});

test("a GitLab that does not hold requests is asked at the paced rhythm", async () => {
  const server = await startJobQueue({ tokens: [tokenA], longPolling: false });
  open.push(server);
  startClaimer({ server, config: { turnInterval: 200 } });

  await pause(1_100);

  expect(server.answered.length).toBeLessThanOrEqual(12);
});

describe("a runner that GitLab refuses", () => {
  const wrong = aPool({ name: "wrong", size, runnerToken: new Secret("glrt-t1_wrongwrongwrong") });

  test("is left alone, says so once, and does not touch the others", async () => {
    const { claimer, logged } = startClaimer({ pools: [wrong, poolA] });

    await eventually(() => expect(claimer.status()[0]?.fatal).toBe(true));
    gitLab.enqueue(tokenA, 1);
    await eventually(async () => expect(await claimedIds()).toEqual([1]));

    expect(claimer.status()[0]).toMatchObject({ pool: "wrong", runner: "glrt-t1_wron", state: "waiting" });
    expect(claimer.status()[0]?.reason).toContain("create a runner in GitLab");
    expect(gitLab.answered.filter(({ status }) => status === 403)).toHaveLength(1);
    expect(logged.filter(({ level }) => level === "error")).toHaveLength(1);
    expect(JSON.stringify(logged)).not.toContain("wrongwrongwrong");
  });

  test("is asked again at once after its token was changed", async () => {
    const { claimer, pools } = startClaimer({ pools: [wrong] });
    await eventually(() => expect(claimer.status()[0]?.fatal).toBe(true));
    gitLab.enqueue(tokenA, 1);

    pools.set("wrong", { ...wrong, runnerToken: new Secret(tokenA) });
    claimer.reload();

    await eventually(async () => expect(await claimedIds()).toEqual([1]));
    expect(claimer.status()[0]).toMatchObject({ fatal: false, runner: "glrt-t1_aaaa" });
  });
});

test("nothing is asked for while the pool's machines cannot be started, and the status says why", async () => {
  const { claimer, health } = startClaimer();
  await eventually(() => expect(gitLab.openRequests()).toBe(1));
  health.value = { ok: false, problem: "image base is missing" };
  gitLab.enqueue(tokenA, 1);
  await eventually(() => expect(gitLab.openRequests()).toBe(0));
  await pause(100);
  expect(gitLab.given).toHaveLength(0);
  expect(claimer.status()[0]).toMatchObject({ state: "waiting", reason: "image base is missing" });

  health.value = { ok: true };
  claimer.wake();

  await eventually(async () => expect(await claimedIds()).toEqual([1]));
});

test("pools that are added and removed are taken over", async () => {
  const { claimer, pools } = startClaimer({ pools: [poolA] });
  await eventually(() => expect(gitLab.openRequests(tokenA)).toBe(1));

  pools.set("b", poolB);
  pools.delete("a");
  claimer.reload();

  await eventually(() => expect(gitLab.openRequests(tokenB)).toBe(1));
  expect(claimer.status().map(({ pool }) => pool)).toEqual(["b"]);
  gitLab.enqueue(tokenB, 1);
  await eventually(async () => expect(await claimedIds()).toEqual([1]));
});

describe("stop", () => {
  test("waits for the answer of an open request and takes its job", async () => {
    const { promise: mayAnswer, resolve: letAnswer } = Promise.withResolvers<void>();
    gitLab.next(async (_request, response) => {
      await mayAnswer;
      answer(response, 201, aPayload({ id: 77 }));
    });
    const { claimer } = startClaimer();
    await eventually(() => expect(gitLab.openRequests()).toBe(1));
    let stopped = false;

    const stopping = claimer.stop().then(() => {
      stopped = true;
    });
    await pause(50);

    expect(stopped).toBe(false);
    expect(claimer.status()[0]).toMatchObject({ state: "waiting", reason: "FireRunner is ending" });
    letAnswer();
    await stopping;
    expect(await claimedIds()).toEqual([77]);
    expect(gitLab.aborted()).toBe(0);
    expect(gitLab.openRequests()).toBe(0);
  });
});

describe("when the store is full", () => {
  const full = () => new StoreError("store_full", "storing job 1 failed: the disk is full");

  test("the job is kept, nothing more is claimed, and it is stored when there is room", async () => {
    let room = false;
    const { claimer } = startClaimer({ claimError: () => (room ? undefined : full()) });
    gitLab.enqueue(tokenA, 1, 2);
    await eventually(() => expect(claimer.status()[0]?.reason).toContain("cannot be stored"));
    await pause(300);
    expect(gitLab.given).toHaveLength(1);

    room = true;

    await eventually(async () => expect(await claimedIds()).toEqual([1, 2]));
    expect(gitLab.updates).toEqual([]);
  });

  test("the job is ended in GitLab when FireRunner has to end first", async () => {
    const { claimer, logged } = startClaimer({ claimError: full });
    gitLab.enqueue(tokenA, 1);
    await eventually(() => expect(gitLab.given).toHaveLength(1));

    await claimer.stop();

    expect(await claimedIds()).toEqual([]);
    const [trace, update] = gitLab.updates;
    expect(trace).toMatchObject({ method: "PATCH", path: "/api/v4/jobs/1/trace" });
    expect(trace?.body).toContain("the disk is full");
    expect(update?.json).toMatchObject({ state: "failed", failure_reason: "runner_system_failure" });
    expect(logged.some(({ level }) => level === "error")).toBe(true);
  });
});

describe("a job that cannot be used", () => {
  test("is ended in GitLab with the reason, and its runner waits", async () => {
    gitLab.next((_request, response) => answer(response, 201, { id: 5, token: "glcbt-odd" }));
    const { claimer } = startClaimer();

    await eventually(() => expect(gitLab.updates).toHaveLength(2));

    expect(gitLab.updates[0]?.body).toContain("not as expected at job_info");
    expect(gitLab.updates[1]?.json).toEqual({
      token: "glcbt-odd",
      state: "failed",
      failure_reason: "runner_system_failure",
    });
    expect(claimer.status()[0]).toMatchObject({ state: "waiting", until: expect.any(Number) });
    expect(gitLab.openRequests()).toBe(0);
  });

  test("is loudly logged when it cannot even be named", async () => {
    gitLab.next((_request, response) => {
      response.writeHead(201, { "content-length": 5_000 }).write('{"i', () => response.destroy());
    });
    const { logged } = startClaimer();

    await eventually(() =>
      expect(logged).toContainEqual(
        expect.objectContaining({
          level: "error",
          message: expect.stringContaining("cannot be ended"),
        }),
      ),
    );
    expect(gitLab.updates).toEqual([]);
  });
});

test("faults pass: GitLab down, busy, cut off, and then jobs are taken again", async () => {
  gitLab.next((_request, response) => answer(response, 502, "<html>"));
  gitLab.next((_request, response) => response.destroy());
  gitLab.next((_request, response) => answer(response, 409, {}));
  const { claimer, logged } = startClaimer();
  gitLab.enqueue(tokenA, 1);
  await eventually(() => expect(claimer.status()[0]?.reason).toContain("502"));

  await eventually(async () => expect(await claimedIds()).toEqual([1]));

  expect(claimer.status()[0]).toMatchObject({ reason: undefined, fatal: false });
  expect(logged.filter(({ level }) => level === "warn").length).toBeGreaterThanOrEqual(3);
  expect(logged.some(({ message }) => message.includes("again"))).toBe(true);
});

test("in a storm of faults every job that GitLab gave is stored once, and no slot is overbooked", async () => {
  const machines = 4;
  const ids = Array.from({ length: 30 }, (_, index) => index + 1);
  const faults = [
    (response: ServerResponse) => answer(response, 500, {}),
    (response: ServerResponse) => answer(response, 409, {}),
    (response: ServerResponse) => response.destroy(),
  ];
  let stored = 0;
  let finished = 0;
  const { logged } = startClaimer({
    machines,
    pools: [poolA, poolB],
    config: { turnInterval: 20 },
    claimError: () => (++stored % 7 === 0 ? new Error("the store is busy") : undefined),
  });
  for (const id of ids) gitLab.enqueue(id % 2 ? tokenA : tokenB, id);
  let mostHeld = 0;

  await vi.waitFor(
    async () => {
      const jobs = await store.jobs({ unfinished: true });
      mostHeld = Math.max(mostHeld, gitLab.given.length - finished);
      const oldest = jobs.at(-1);
      if (oldest) finished++;
      if (oldest) await store.finishJob(oldest.id, "success");
      const fault = oldest && oldest.id % 5 === 0 ? faults.shift() : undefined;
      if (fault) gitLab.next((_request, response) => fault(response));
      expect(gitLab.given).toHaveLength(ids.length);
    },
    { timeout: 15_000, interval: 10 },
  );

  await eventually(async () => {
    const all = await store.jobs({ limit: 100 });
    expect(all.map(({ id }) => id).toSorted((a, b) => a - b)).toEqual(ids);
  });
  expect(mostHeld).toBeLessThanOrEqual(machines);
  expect(gitLab.given.map(({ id }) => id).toSorted((a, b) => a - b)).toEqual(ids);
  expect(gitLab.updates).toEqual([]);
  expect(logged.some(({ message }) => message === "claimed job could not be stored")).toBe(true);
});

test("capacity that cannot be read stops claiming until it can", async () => {
  const problem = new Error("driver is away");
  let away = true;
  const pools = new Map([["a", poolA]]);
  const slots = createSlots({
    store,
    pools: () => pools,
    hosts: async () => {
      if (away) throw problem;
      return [aHostCapacity({ capacity: { cpus: 1, memoryMib: 1_024, machines: 1 } })];
    },
    placement: "spread",
  });
  const http = createGitLabHttp({ url: gitLab.url });
  const claimer = createClaimer({
    api: createRunnerApi({ http, clock: systemClock, version: "1", systemId: "s_0123456789ab" }),
    store,
    pools: () => pools,
    slots,
    runnerInfo: () => ({}),
    canClaim: () => ({ ok: true }),
    clock: systemClock,
    log: recordingLog([]),
    random: Math.random,
    config: ClaimingConfig.parse({}),
  });
  claimer.start();
  open.push({
    async [Symbol.asyncDispose]() {
      await Promise.all([claimer.stop(), gitLab[Symbol.asyncDispose]()]);
      await http.dispatcher.destroy();
    },
  });
  await eventually(() => expect(claimer.status()[0]?.reason).toContain("driver is away"));
  expect(gitLab.answered).toEqual([]);

  away = false;
  gitLab.enqueue(tokenA, 1);

  await eventually(async () => expect(await claimedIds()).toEqual([1]));
});
