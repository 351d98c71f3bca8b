import type { ServerResponse } from "node:http";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { aHostCapacity } from "../../test/builders/host-capacity.ts";
import { aPool } from "../../test/builders/pool.ts";
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
import { Secret } from "../base/secret.ts";
import { StoreError } from "../store/errors.ts";

let fixture: ClaimerFixture;
let store: ClaimerFixture["store"];
let gitLab: ClaimerFixture["gitLab"];
let startClaimer: ClaimerFixture["startClaimer"];
let claimedIds: ClaimerFixture["claimedIds"];

beforeEach(async () => {
  fixture = await aClaimerFixture();
  ({ store, gitLab, startClaimer, claimedIds } = fixture);
});

afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
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
  const { claimer } = startClaimer({
    hosts: async () => {
      if (away) throw problem;
      return [aHostCapacity({ capacity: { cpus: 1, memoryMib: 1_024, machines: 1 } })];
    },
  });
  await eventually(() => expect(claimer.status()[0]?.reason).toContain("driver is away"));
  expect(gitLab.answered).toEqual([]);

  away = false;
  gitLab.enqueue(tokenA, 1);

  await eventually(async () => expect(await claimedIds()).toEqual([1]));
});
