import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { aNewMachine } from "../../test/builders/machine.ts";
import { aPayload } from "../../test/builders/payload.ts";
import { aSize } from "../../test/builders/size.ts";
import {
  aClaimerFixture,
  type ClaimerFixture,
  eventually,
  pause,
  poolA,
  poolB,
  size,
  tokenA,
  tokenB,
} from "../../test/harness/claimer.ts";
import { answer } from "../../test/servers/http-server.ts";
import { startJobQueue } from "../../test/servers/job-queue.ts";

let fixture: ClaimerFixture;
let open: ClaimerFixture["open"];
let store: ClaimerFixture["store"];
let gitLab: ClaimerFixture["gitLab"];
let startClaimer: ClaimerFixture["startClaimer"];
let claimedIds: ClaimerFixture["claimedIds"];

beforeEach(async () => {
  fixture = await aClaimerFixture();
  ({ open, store, gitLab, startClaimer, claimedIds } = fixture);
});

afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
});

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
