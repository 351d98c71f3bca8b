import { beforeEach, expect, test } from "vitest";
import { createManualClock, type ManualClock } from "../base/manual-clock.ts";
import { createTaskQueue, type Task, type TaskQueue } from "./task-queue.ts";

let clock: ManualClock;
let tasks: TaskQueue;
let freed: number;

beforeEach(() => {
  clock = createManualClock();
  freed = 0;
  tasks = createTaskQueue({
    clock,
    random: () => 0.5,
    onFree: () => {
      freed += 1;
    },
  });
});

function aTask(work: Task["work"], overrides: Partial<Task> = {}): Task {
  return {
    key: "job:1",
    name: "do it",
    limitMs: 1_000,
    limiter: (each) => each(),
    work,
    onFailure: () => {},
    ...overrides,
  };
}

const forever = () => new Promise<undefined>(() => {});
const obedient = (signal: AbortSignal) =>
  new Promise<undefined>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));

test("a key carries one task at a time, and others are free meanwhile", async () => {
  expect(tasks.start(aTask(obedient))).toBe(true);
  expect(tasks.start(aTask(obedient))).toBe(false);
  expect(tasks.start(aTask(obedient, { key: "job:2" }))).toBe(true);
  await clock.advance(1_000);

  expect(freed).toBe(2);
});

test("who was turned away hears that the key is free, others not when nothing has changed", async () => {
  const quiet = aTask(async () => void (await clock.sleep(50)) as undefined, { isQuiet: true });
  tasks.start(quiet);
  await clock.advance(50);
  expect([tasks.running("job:1"), freed]).toEqual([undefined, 0]);

  tasks.start(quiet);
  tasks.start(quiet);
  await clock.advance(50);
  expect(freed).toBe(1);
});

test("a key cools down after a failure, longer after each, and says why", async () => {
  const fail = aTask(async () => Promise.reject(new Error("no room")));
  const pauses: number[] = [];
  let failedAt = clock.now();
  for (let tries = 0; tries < 200 && pauses.length < 3; tries++) {
    if (tasks.start(fail)) {
      pauses.push(clock.now() - failedAt);
      failedAt = clock.now();
    }
    await clock.advance(100);
  }

  expect(tasks.status()).toMatchObject([{ key: "job:1", cooldown: { failures: 3, error: "no room" } }]);
  expect(pauses[2]).toBeGreaterThan(pauses[1] ?? 0);
  expect(tasks.start(fail)).toBe(false);
});

test("a success ends the rests, and a task can ask for a pause", async () => {
  tasks.start(aTask(async () => ({ forMs: 5_000 })));
  await clock.advance(4_999);
  expect(tasks.status()).toEqual([]);
  expect(tasks.start(aTask(async () => undefined))).toBe(false);
  await clock.advance(1);

  expect(tasks.start(aTask(async () => undefined))).toBe(true);
});

test("a task that ignores its time limit is abandoned, and its key is free again", async () => {
  let failure: unknown;
  tasks.start(
    aTask(forever, {
      onFailure: (error) => {
        failure = error;
      },
    }),
  );
  await clock.advance(1_500);
  expect(tasks.running("job:1")).toBe("do it");
  await clock.advance(5_000);

  expect(tasks.running("job:1")).toBeUndefined();
  expect(String(failure)).toContain("do it took longer than 1.0 s");
});

test("a task is aborted with a reason", async () => {
  let failure: unknown;
  tasks.start(
    aTask(obedient, {
      onFailure: (error) => {
        failure = error;
      },
    }),
  );

  tasks.abort("job:1", new Error("not wanted any more"));
  await clock.advance(1);

  expect(String(failure)).toContain("not wanted any more");
});

test("settling waits for what runs, and interrupts what takes too long", async () => {
  tasks.start(aTask(async () => void (await clock.sleep(50)) as undefined));
  tasks.start(aTask(obedient, { key: "job:2", limitMs: 60_000 }));
  let settled = false;
  const done = tasks.settle(2_000, new Error("ending")).then(() => {
    settled = true;
  });

  await clock.advance(1_999);
  expect([tasks.running("job:1"), settled]).toEqual([undefined, false]);
  await clock.advance(10);
  await done;
  expect(settled).toBe(true);
});

test("the cooldowns of keys that nobody uses again are forgotten", async () => {
  tasks.start(aTask(async () => Promise.reject(new Error("no room"))));
  await clock.advance(1);

  tasks.forget((key) => key === "job:1");

  expect(tasks.status()).toEqual([]);
  expect(tasks.start(aTask(async () => undefined))).toBe(true);
});
