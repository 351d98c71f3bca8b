import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { anImage } from "../../test/builders/image.ts";
import { aClaim } from "../../test/builders/job.ts";
import { aPool } from "../../test/builders/pool.ts";
import { aSchedulerFixture, type SchedulerFixture } from "../../test/harness/scheduler.ts";
import type { Store } from "../store/store.ts";
import type { VmDriver } from "../vm/driver.ts";
import { VmError } from "../vm/errors.ts";
import { createFleet } from "../vm/fleet.ts";
import { ShutdownConfig } from "./config.ts";

let fixture: SchedulerFixture;
let clock: SchedulerFixture["clock"];
let store: SchedulerFixture["store"];
let host: SchedulerFixture["host"];
let driver: SchedulerFixture["driver"];
let gitlab: SchedulerFixture["gitlab"];
let relay: SchedulerFixture["relay"];
let start: SchedulerFixture["start"];
let aRunningJob: SchedulerFixture["aRunningJob"];
let kinds: SchedulerFixture["kinds"];

beforeEach(async () => {
  fixture = await aSchedulerFixture();
  ({ clock, store, host, driver, gitlab, relay, start, aRunningJob, kinds } = fixture);
});

afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
});

describe("a restart", () => {
  test("adopts running machines once, and destroys those that nobody knows", async () => {
    const first = start();
    const machineId = await aRunningJob();
    const stopped = first.stop();
    await clock.advance(100);
    await stopped;
    relay.listening.clear();
    host.start({ id: "fr-strange2", size: aPool().size, image: anImage });

    start();
    await clock.advance(3_000);

    expect((await kinds()).filter((kind) => kind === "machine:adopted")).toHaveLength(1);
    expect([...relay.listening.keys()]).toEqual([machineId]);
    expect(host.ids()).toEqual([machineId]);
    expect((await store.job(4711))?.state).toBe("running");
  });

  test("finds a machine that died meanwhile", async () => {
    const first = start();
    const machineId = await aRunningJob();
    const stopped = first.stop();
    await clock.advance(100);
    await stopped;
    host.end(machineId, "killed");

    start();
    await clock.advance(2_000);

    expect(await store.job(4711)).toMatchObject({ state: "finished", result: "failed" });
  });

  test("goes on with a machine whose creation was interrupted", async () => {
    host.faults.create = () => ({ hang: true });
    const first = start();
    await store.claim(aClaim());
    await clock.advance(100);
    const stopped = first.stop();
    await clock.advance(20_000);
    await stopped;
    host.faults.create = () => ({});

    start();
    await clock.advance(1_000);

    const job = await store.job(4711);
    expect(job?.attempt).toBe(1);
    expect((await store.machine(job?.machineId ?? ""))?.state).toBe("booting");
  });
});

describe("a machine that will not go away", () => {
  test("is tried again, later each time, while other machines come and go", async () => {
    host.faults.destroy = (id) =>
      id === stubborn ? new VmError("vm_destroy_failed", "the disk is busy", { retryable: true }) : undefined;
    const scheduler = start();
    const stubborn = await aRunningJob(1);
    await store.finishJob(1, "success");
    await aRunningJob(2);
    await store.finishJob(2, "success");
    await clock.advance(10_000);

    expect(host.ids()).toEqual([stubborn]);
    expect(scheduler.status().work).toMatchObject([
      { key: `machine:${stubborn}`, cooldown: { error: "the disk is busy" } },
    ]);
    const failures = (await kinds(1)).filter((kind) => kind === "machine:destroy-failed").length;
    expect(failures).toBeGreaterThan(2);
    expect(failures).toBeLessThan(8);

    host.faults.destroy = () => undefined;
    await clock.advance(60_000);
    expect(host.ids()).toEqual([]);
  });

  test("has all the time it needs, however many rounds go by meanwhile", async () => {
    const destroy: VmDriver["destroy"] = async (id, signal) => {
      await clock.sleep(5_000, signal);
      await driver.destroy(id, signal);
    };
    start({ fleet: createFleet([{ ...driver, destroy }]) });
    await aRunningJob();

    await store.finishJob(4711, "success");
    await clock.advance(6_000);

    expect(host.ids()).toEqual([]);
    expect(await kinds()).not.toContain("machine:destroy-failed");
  });

  test("whose guest took the job is left in peace, though its host never answered the create", async () => {
    host.faults.create = () => ({ isUnanswered: true });
    start();
    await store.claim(aClaim());
    await clock.advance(100);
    const id = (await store.job(4711))?.machineId ?? "";
    await store.markBooting(id);
    await store.markReady(id);
    await store.handOver(4711, id);
    await clock.advance(120_000);

    expect(await store.job(4711)).toMatchObject({ state: "running", machineId: id });
    expect(host.status(id)).toMatchObject({ running: true });
  });

  test("is given up for now when its destruction hangs, and what is created for nobody is not waited for", async () => {
    host.faults.create = () => ({ hang: true });
    start();
    await store.claim(aClaim());
    await clock.advance(100);

    await store.finishJob(4711, "canceled");
    await clock.advance(1_000);

    expect(host.ids()).toEqual([]);
    expect(await store.machines({ live: true })).toEqual([]);
  });
});

describe("claiming", () => {
  test("is allowed once the pool was looked at, and not while draining", async () => {
    const scheduler = start();
    expect(scheduler.canClaim(aPool())).toEqual({ ok: false, problem: "it has not been looked at yet" });
    await clock.advance(100);

    expect(scheduler.canClaim(aPool())).toEqual({ ok: true });
    expect(scheduler.runnerInfo(aPool())).toEqual(anImage.runnerInfo);
    scheduler.drain();
    expect(scheduler.canClaim(aPool()).ok).toBe(false);
    scheduler.resume();
    expect(scheduler.canClaim(aPool()).ok).toBe(true);
  });

  test("is refused for what is wrong with the image, the driver or the disk, and allowed again afterwards", async () => {
    let freeBytes = 10;
    const scheduler = start({ disk: { freeBytes: async () => freeBytes, minFreeBytes: 2 ** 30 } });
    await clock.advance(100);
    expect(scheduler.canClaim(aPool())).toMatchObject({ problem: expect.stringContaining("10 B are free") });

    freeBytes = 2 ** 40;
    await clock.advance(20_000);
    expect(scheduler.canClaim(aPool())).toEqual({ ok: true });
    expect(scheduler.canClaim(aPool({ name: "other" }))).toMatchObject({ problem: "it is not configured" });
  });

  test("is refused while the image is missing or the driver unusable", async () => {
    const missing = start({
      images: { resolve: async () => Promise.reject(new Error("there is no image base")) },
    });
    const unusable = start({
      fleet: createFleet([
        { ...driver, probe: async () => ({ usable: false, problem: "no QEMU", hint: "install it" }) },
      ]),
    });
    await clock.advance(100);

    expect(missing.canClaim(aPool())).toEqual({ ok: false, problem: "there is no image base" });
    expect(unusable.canClaim(aPool())).toEqual({ ok: false, problem: "no QEMU" });
  });
});

describe("an orderly end", () => {
  test("leaves running jobs for the next start", async () => {
    const scheduler = start();
    const machineId = await aRunningJob();

    const ended = scheduler.shutDown(new AbortController().signal);
    await clock.advance(3_000);
    await ended;

    expect((await store.job(4711))?.state).toBe("running");
    expect(host.ids()).toEqual([machineId]);
  });

  test("does not wait when nothing runs, nor when it is told to hurry", async () => {
    const idle = start();
    await clock.advance(100);
    const idleEnd = idle.shutDown(new AbortController().signal);
    await clock.advance(100);
    await idleEnd;
    const busy = start();
    await aRunningJob();
    const hurry = new AbortController();
    const busyEnd = busy.shutDown(hurry.signal);
    hurry.abort();
    await clock.advance(50);
    await busyEnd;

    expect(host.ids()).toHaveLength(1);
  });

  test("ends running jobs honestly where that is configured", async () => {
    const scheduler = start({ shutdown: ShutdownConfig.parse({ drainLimit: "2s", onLimit: "end" }) });
    await aRunningJob();

    const ended = scheduler.shutDown(new AbortController().signal);
    await clock.advance(5_000);
    await ended;

    expect(await store.job(4711)).toMatchObject({ state: "finished", result: "failed" });
    expect(String(gitlab.trace)).toContain("FireRunner was told to end");
    expect(host.ids()).toEqual([]);
  });
});

test("the status tells of the last round, the hosts and the pools", async () => {
  const scheduler = start();
  await aRunningJob();
  await clock.advance(2_000);

  const status = scheduler.status();

  expect(status).toMatchObject({ mode: "run", unfinishedJobs: 1, liveMachines: 1, work: [] });
  expect(status.hosts).toMatchObject([
    { driver: "fake", host: "local", taken: { machines: 1 }, problem: undefined },
  ]);
  expect(status.lastRound?.error).toBeUndefined();
  expect(status.pools[0]).toMatchObject({ pool: "small", ok: true, accelerator: "none" });
});

test("a round that fails says so and is followed by others", async () => {
  let isBroken = true;
  const jobs: Store["jobs"] = async (filter) => {
    if (isBroken) throw new Error("the database is locked");
    return await store.jobs(filter);
  };
  const scheduler = start({ store: Object.assign(Object.create(store) as Store, { jobs }) });
  await clock.advance(100);
  expect(scheduler.status().lastRound?.error).toBe("the database is locked");

  isBroken = false;
  await store.claim(aClaim());
  await clock.advance(100);
  expect((await store.job(4711))?.state).toBe("starting");
});

test("a driver that cannot list is named in the status, and nothing is concluded from it", async () => {
  const scheduler = start();
  const machineId = await aRunningJob();
  host.faults.list = () => new VmError("vm_unusable", "the host is busy");
  await clock.advance(5_000);

  expect(scheduler.status().hosts[0]?.problem).toBe("the host is busy");
  expect((await store.job(4711))?.state).toBe("running");
  expect((await store.machine(machineId))?.state).toBe("busy");
});
