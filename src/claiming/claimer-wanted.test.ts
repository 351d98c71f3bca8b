import { afterEach, describe, expect, test } from "vitest";
import { aHostCapacity } from "../../test/builders/host-capacity.ts";
import { aPayload } from "../../test/builders/payload.ts";
import { aPool } from "../../test/builders/pool.ts";
import { aSize } from "../../test/builders/size.ts";
import { aStore } from "../../test/builders/store.ts";
import { silentLog } from "../base/log.ts";
import { createManualClock } from "../base/manual-clock.ts";
import { Secret } from "../base/secret.ts";
import { createClaimer } from "../claiming/claimer.ts";
import { createSlots } from "../claiming/slots.ts";
import type { Pool } from "../domain/pool.ts";
import type { JobAnswer, JobRequest, RunnerApi } from "../gitlab/runner-api.ts";
import { JobPayload } from "../gitlab/runner-api.ts";
import { ClaimingConfig } from "./config.ts";

const size = aSize({ cpus: 1, memoryMib: 1_024 });
const standing = aPool({ name: "standing", size, runnerToken: new Secret("glrt-standing") });
const tagged = aPool({
  name: "tags:a",
  origin: { kind: "tags", key: "r-a" },
  size,
  runnerToken: new Secret("glrt-tagged"),
  concurrency: 100,
});

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const each of open.splice(0).toReversed()) await each[Symbol.asyncDispose]();
});

interface Asked {
  readonly token: string;
  readonly at: number;
  readonly held: boolean;
}

/** A claimer on a clock that stands still, and a GitLab that holds any request with a `last_update` until told otherwise. */
async function aClaimer(setup: {
  machines?: number;
  pools?: Pool[];
  assign?: (id: number, pool: Pool) => Pool;
}) {
  const clock = createManualClock(0);
  const testStore = await aStore({ clock });
  const pools = new Map((setup.pools ?? [standing, tagged]).map((pool) => [pool.name, pool]));
  const wanted = new Map([["tags:a", 0]]);
  const queues = new Map<string, number[]>();
  const asked: Asked[] = [];
  const refused: string[] = [];
  const ending = Promise.withResolvers<JobAnswer>();
  const rig = { answerMs: 10, fatal: false, mostOpen: 0, open: 0 };

  async function requestJob({ token, lastUpdate }: JobRequest): Promise<JobAnswer> {
    const name = token.reveal();
    const held = lastUpdate !== undefined;
    asked.push({ token: name, at: clock.now(), held });
    if (held) return await ending.promise;
    rig.open++;
    rig.mostOpen = Math.max(rig.mostOpen, rig.open);
    await Promise.race([clock.sleep(rig.answerMs), ending.promise]);
    rig.open--;
    if (rig.fatal) return { kind: "wait", waitMs: 0, problem: "403", fatal: true };
    const id = queues.get(name)?.shift();
    if (id === undefined) return { kind: "none", lastUpdate: "1" };
    const raw = aPayload({ id });
    return { kind: "job", payload: JobPayload.parse(raw), raw: JSON.stringify(raw) };
  }

  const slots = createSlots({
    store: testStore.store,
    pools: () => pools,
    hosts: async () => [
      aHostCapacity({ capacity: { cpus: setup.machines ?? 10, memoryMib: 100_000, machines: 100 } }),
    ],
    placement: "spread",
  });
  const claimer = createClaimer({
    api: { requestJob } as RunnerApi,
    store: testStore.store,
    pools: () => pools,
    slots,
    runnerInfo: () => ({ name: "gitlab-runner" }),
    canClaim: () => ({ ok: true }),
    wanted: (pool) => (pool === "standing" ? undefined : (wanted.get(pool) ?? 0)),
    onRefused: (pool) => refused.push(pool),
    ...(setup.assign ? { assign: setup.assign } : {}),
    clock,
    log: silentLog,
    random: () => 0.5,
    config: ClaimingConfig.parse({}),
  });
  claimer.start();
  open.push(testStore, {
    async [Symbol.asyncDispose]() {
      ending.resolve({ kind: "none" });
      await claimer.stop();
      slots.close();
    },
  });
  await clock.advance(1_000);
  const timesOf = (pool: Pool) =>
    asked.filter(({ token }) => token === pool.runnerToken.reveal()).map(({ at }) => at);
  function want(count: number, pool = "tags:a"): void {
    wanted.set(pool, count);
    claimer.wake();
  }
  return { claimer, clock, pools, queues, asked, refused, rig, timesOf, want, store: testStore.store };
}

describe("a pool whose jobs are known of", () => {
  test("is not asked for while no job waits, and the status says so", async () => {
    const { claimer, timesOf } = await aClaimer({});

    expect(timesOf(tagged)).toEqual([]);
    expect(claimer.status()[1]).toMatchObject({
      pool: "tags:a",
      state: "waiting",
      reason: "no job with its tags waits in GitLab",
      fatal: false,
    });
  });

  test("is asked for at once when a job waits, and GitLab never holds the request", async () => {
    const { asked, queues, want, store, clock } = await aClaimer({});
    queues.set("glrt-tagged", [7]);

    want(1);
    await clock.advance(20);

    expect(asked.filter(({ token }) => token === "glrt-tagged")[0]).toMatchObject({ at: 1_000, held: false });
    expect(await store.job(7)).toMatchObject({ pool: "tags:a", state: "claimed" });
    await clock.advance(60_000);
    expect(asked.some(({ token, held }) => held && token === "glrt-tagged")).toBe(false);
  });

  test("is asked for ever more seldom while GitLab has nothing for it", async () => {
    const { want, clock, timesOf } = await aClaimer({});

    want(1);
    await clock.advance(120_000);

    const pauses = timesOf(tagged)
      .map((at, index, all) => at - (all[index - 1] ?? at))
      .slice(1);
    const inSeconds = pauses.map((pauseMs) => Math.floor(pauseMs / 1_000));
    expect(inSeconds.slice(0, 4)).toEqual([1, 2, 4, 8]);
    expect(inSeconds.slice(4).every((each) => each === 15)).toBe(true);
  });

  test("is asked for at once when one more job waits", async () => {
    const { queues, want, clock, store, timesOf } = await aClaimer({});
    want(1);
    await clock.advance(60_000);
    const before = timesOf(tagged).length;
    queues.set("glrt-tagged", [8]);

    want(2);
    await clock.advance(15);

    expect(timesOf(tagged).slice(before)[0]).toBe(61_000);
    expect(await store.job(8)).toBeDefined();
  });

  test("has never more requests open than jobs wait", async () => {
    const { queues, want, rig, clock, store } = await aClaimer({ pools: [tagged], machines: 50 });
    queues.set(
      "glrt-tagged",
      Array.from({ length: 30 }, (_, index) => index + 1),
    );

    want(3);
    await clock.advance(40);
    expect(rig.mostOpen).toBeLessThanOrEqual(3);
    want(30);
    await clock.advance(2_000);

    expect(rig.mostOpen).toBe(8);
    expect(await store.jobs({ unfinished: true })).toHaveLength(30);
  });
});

describe("slots", () => {
  test("are held by long polls while there is room for jobs by tag beside them", async () => {
    const { asked } = await aClaimer({ machines: 2 });

    expect(asked.at(-1)).toMatchObject({ token: "glrt-standing", held: true });
  });

  test("are not held by long polls where that would keep a job by tag waiting", async () => {
    const { asked, clock, queues, want, store } = await aClaimer({ machines: 1 });
    await clock.advance(10_000);
    expect(asked.length).toBeGreaterThan(5);
    expect(asked.every(({ held }) => !held)).toBe(true);
    queues.set("glrt-tagged", [1, 2]);

    want(2);
    await clock.advance(1_500);

    expect(await store.jobs({ unfinished: true })).toMatchObject([{ id: 1, pool: "tags:a" }]);
  });

  test("go by turns between a busy pool and jobs by tag", async () => {
    const { clock, queues, want, store } = await aClaimer({ machines: 1 });
    queues.set("glrt-tagged", [1, 2, 3]);
    queues.set("glrt-standing", [11, 12, 13]);
    want(3);
    const pools: string[] = [];

    for (let round = 0; round < 6; round++) {
      await clock.advance(1_500);
      const [job] = await store.jobs({ unfinished: true });
      pools.push(job?.pool ?? "none");
      await store.finishJob(job?.id ?? 0, "success");
    }

    expect(pools.filter((pool) => pool === "tags:a")).toHaveLength(3);
    expect(pools.filter((pool) => pool === "standing")).toHaveLength(3);
  });
});

test("a job goes to the pool of its own tags, and keeps the runner that claimed it", async () => {
  const own = aPool({ name: "tags:own", size, runnerToken: new Secret("glrt-other") });
  const { queues, want, clock, store } = await aClaimer({ assign: (id, pool) => (id === 5 ? own : pool) });
  queues.set("glrt-tagged", [5, 6]);

  want(2);
  await clock.advance(1_000);

  expect(await store.job(5)).toMatchObject({ pool: "tags:own", runner: "glrt-tagg" });
  expect(await store.job(6)).toMatchObject({ pool: "tags:a" });
});

test("a refused token is told of, and other pools that change do not end its wait", async () => {
  const { claimer, rig, refused, clock, pools, want, timesOf } = await aClaimer({ pools: [tagged] });
  rig.fatal = true;
  want(1);
  await clock.advance(1_000);
  expect(refused).toEqual(["tags:a"]);

  pools.set("tags:b", aPool({ name: "tags:b", size, runnerToken: new Secret("glrt-b") }));
  claimer.poolsChanged();
  await clock.advance(30_000);

  expect(timesOf(tagged)).toHaveLength(1);
  expect(claimer.status().map(({ pool }) => pool)).toEqual(["tags:a", "tags:b"]);
  claimer.reload();
  await clock.advance(100);
  expect(timesOf(tagged)).toHaveLength(2);
});

test("a pool counts as polled until the answer is there and its job is kept", async () => {
  const { claimer, queues, want, clock, store, pools } = await aClaimer({});
  queues.set("glrt-tagged", [9]);
  expect(claimer.isPolled("tags:a")).toBe(false);

  want(1);
  await clock.advance(5);
  pools.delete("tags:a");
  claimer.poolsChanged();
  expect(claimer.isPolled("tags:a")).toBe(true);
  await clock.advance(50);

  expect(claimer.isPolled("tags:a")).toBe(false);
  expect(await store.job(9)).toMatchObject({ pool: "tags:a" });
});
