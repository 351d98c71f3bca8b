import { afterEach, beforeEach, expect, test } from "vitest";
import { anImage } from "../../test/builders/image.ts";
import { aClaim } from "../../test/builders/job.ts";
import { aSchedulerFixture, type SchedulerFixture } from "../../test/harness/scheduler.ts";
import { SchedulerConfig } from "./config.ts";
import type { JobImages, PreparedDisks, WantedDisks } from "./ports.ts";
import type { Scheduler } from "./scheduler.ts";

let fixture: SchedulerFixture;
let clock: SchedulerFixture["clock"];
let store: SchedulerFixture["store"];
let host: SchedulerFixture["host"];
let driver: SchedulerFixture["driver"];
let gitlab: SchedulerFixture["gitlab"];
let stop: SchedulerFixture["stop"];
let status: string;
/** Disks of machines in the order in which they were made. */
let made: (readonly string[] | undefined)[];

function start(prepare: JobImages["prepare"], config: object = {}): Scheduler {
  return fixture.start({ jobImages: { prepare }, config: SchedulerConfig.parse(config) });
}

const two: PreparedDisks = {
  disks: ["/images/a", "/images/b"],
  lines: [{ level: "info", subject: "image node:24", text: "is sha256:12, from the cache" }],
};

/** Images that come when the test says so. */
function slowly() {
  const asked: { wanted: WantedDisks; signal: AbortSignal; come: () => void }[] = [];
  const prepare: JobImages["prepare"] = (wanted, signal, tell) =>
    new Promise((resolve, reject) => {
      tell({ level: "info", subject: "image node:24:", text: "fetching 400 MiB" });
      signal.addEventListener("abort", () => reject(signal.reason));
      asked.push({ wanted, signal, come: () => resolve(two) });
    });
  return { asked, prepare };
}

beforeEach(async () => {
  fixture = await aSchedulerFixture();
  ({ clock, store, host, driver, gitlab, stop } = fixture);
  made = [];
  host.onCreate = ({ spec }) => void made.push(spec.imageDisks);
  status = "running";
  gitlab.answer = ({ state }) => ({ kind: "accepted", status: state === "failed" ? "failed" : status });
});

afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
});

test("a machine gets the disks of its job, and the job's log says once where they are from", async () => {
  const wanted: WantedDisks[] = [];
  let creates = 0;
  host.faults.create = () => (++creates < 2 ? { dieAfterMs: 50, exit: "crash" } : {});
  start(async (each) => {
    wanted.push(each);
    return two;
  });

  await store.claim(aClaim());
  await clock.advance(10_000);

  const job = await store.job(4711);
  expect(made).toEqual([two.disks, two.disks]);
  expect(wanted[1]).toEqual({ jobId: 4711, machineId: job?.machineId, pool: "small", image: anImage.digest });
  expect(job?.traceHead.match(/FireRunner: image node:24 is sha256:12, from the cache/g)).toHaveLength(1);
});

test("images may take longer than a machine may, and hold up no other job", async () => {
  const { asked, prepare } = slowly();
  const scheduler = start((wanted, signal, tell) =>
    wanted.jobId < 10 ? prepare(wanted, signal, tell) : Promise.resolve({ disks: [], lines: [] }),
  );
  for (let jobId = 1; jobId <= 6; jobId++) await store.claim(aClaim({ jobId }));
  await store.claim(aClaim({ jobId: 11 }));

  await clock.advance(20 * 60_000);
  const other = await store.job(11);
  const waiting = await store.job(1);
  const { work, fetching } = scheduler.status();
  const before = String(gitlab.traces.get(1));
  for (const { come } of asked) come();
  await clock.advance(1_000);

  expect((await store.machine(other?.machineId ?? ""))?.bootingAt).not.toBeNull();
  expect(waiting).toMatchObject({ state: "starting", attempt: 1 });
  expect(work.map(({ name }) => name)).toContain(`fetch images for ${waiting?.machineId}`);
  expect([...fetching]).toContain(waiting?.machineId);
  expect(fetching.size).toBe(6);
  expect(before).toContain("image node:24: fetching 400 MiB");
  const kinds = (await store.events({ jobId: 1 })).map(({ kind }) => kind);
  expect(kinds.filter((kind) => /fetching|images/.test(kind))).toEqual([
    "machine:fetching",
    "machine:images-here",
  ]);
  expect(asked).toHaveLength(6);
  expect((await store.machine(waiting?.machineId ?? ""))?.state).toBe("booting");
});

test("the time that images took is none of what a job may wait for a machine", async () => {
  const { asked, prepare } = slowly();
  let creates = 0;
  host.faults.create = () => (++creates === 1 ? { dieAfterMs: 50, exit: "crash" } : {});
  start(
    (wanted, signal, tell) => (asked.length === 0 ? prepare(wanted, signal, tell) : Promise.resolve(two)),
    {
      startLimit: "1m",
    },
  );
  await store.claim(aClaim());
  await clock.advance(5 * 60_000);
  asked[0]?.come();
  await clock.advance(10_000);

  expect(await store.job(4711)).toMatchObject({ state: "starting", attempt: 2 });
  expect(made).toHaveLength(2);
});

test("an image that cannot be had fails its job at once, with the registry's words and no machine", async () => {
  start(async () => ({
    failure: { reason: "docker.io/library/nodee:24 is not there: manifest unknown", cause: "image" },
  }));

  await store.claim(aClaim());
  await clock.advance(5_000);

  expect(await store.job(4711)).toMatchObject({
    state: "finished",
    result: "failed",
    attempt: 1,
    cause: "image",
    reason: expect.stringContaining("manifest unknown"),
  });
  expect(gitlab.updates.at(-1)).toMatchObject({ state: "failed", failureReason: "script_failure" });
  expect(made).toEqual([]);
  expect(await store.machines({ live: true })).toEqual([]);
});

test("a cancel while images are fetched ends the fetching, and the job", async () => {
  const { asked, prepare } = slowly();
  start(prepare);
  await store.claim(aClaim());
  await clock.advance(1_000);
  status = "canceling";
  await clock.advance(15_000);

  expect(await store.job(4711)).toMatchObject({ state: "finished", result: "canceled" });
  expect(asked).toHaveLength(1);
  expect(asked[0]?.signal.aborted).toBe(true);
  expect(made).toEqual([]);
  expect(await store.machines({ live: true })).toEqual([]);
});

test("what a restart interrupts is begun again for the same machine", async () => {
  const first = slowly();
  const before = start(first.prepare);
  await store.claim(aClaim());
  await clock.advance(1_000);
  const machineId = (await store.job(4711))?.machineId;
  await stop(before);
  const again: WantedDisks[] = [];
  start(async (wanted) => {
    again.push(wanted);
    return two;
  });
  await clock.advance(1_000);

  expect(first.asked[0]?.signal.aborted).toBe(true);
  expect(again).toMatchObject([{ jobId: 4711, machineId }]);
  expect(await store.job(4711)).toMatchObject({ state: "starting", machineId, attempt: 1 });
  expect(made).toEqual([two.disks]);
});

test("more images than a machine can have fail their job, and no machine is tried", async () => {
  const disks = Array.from({ length: driver.mostImageDisks + 1 }, (_, index) => `/images/${index}`);
  start(async () => ({ disks, lines: [] }));

  await store.claim(aClaim());
  await clock.advance(5_000);

  expect(await store.job(4711)).toMatchObject({
    cause: "image",
    reason: `it names ${disks.length} images and services, and its machine can have ${driver.mostImageDisks}`,
  });
  expect(made).toEqual([]);
});
