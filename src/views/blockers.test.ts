import { expect, test } from "vitest";
import { aJob, someTime } from "../../test/builders/job.ts";
import { blockersOf } from "./blockers.ts";
import type { SchedulerState } from "./ports.ts";

const now = someTime + 10_000;

function aStatus(overrides: Partial<SchedulerState> = {}): SchedulerState {
  const pool = { pool: "small", ok: true, problems: [], accelerator: "tcg" };
  return {
    lastRound: undefined,
    hosts: [],
    blocker: () => undefined,
    place: () => undefined,
    pools: [pool],
    work: [],
    fetching: new Set(),
    ...overrides,
  };
}

test("a job waits for room on a full host, and for what is wrong with its pool", () => {
  const [pool] = aStatus().pools;
  const problems = [{ problem: "the image base is missing", hint: "run firerunner image build" }];
  const blocker = () => "no room for 2 CPUs, 4 GiB: 4 of 4 CPUs are taken";
  const status = aStatus({ blocker, pools: pool ? [{ ...pool, ok: false, problems }] : [] });

  expect(blockersOf(aJob(), status, now)).toEqual([
    "no room for 2 CPUs, 4 GiB: 4 of 4 CPUs are taken",
    "pool small: the image base is missing (run firerunner image build)",
  ]);
});

test("a host's problem is told once, with what to do about it", () => {
  const [pool] = aStatus().pools;
  const problem = "it did not make the last machine: the thin pool is full";
  const problems = [{ problem: `metal-1: ${problem} (tried again in 4.0 s)`, hint: "look at the host" }];
  const blocker = `no room for 2 CPUs, 4 GiB: metal-1: ${problem} (tried again in 4.1 s)`;
  const status = aStatus({
    blocker: () => blocker,
    pools: pool ? [{ ...pool, ok: false, problems }] : [],
  });

  expect(blockersOf(aJob(), status, now)).toEqual([blocker, "look at the host"]);
});

test("a job with a machine waits for its host, and for what is tried again", () => {
  const nothing = { cpus: 0, memoryMib: 0, machines: 0, diskMib: 0 };
  const host = {
    ...{ key: "flintlock/metal-1", driver: "flintlock", host: "metal-1", labels: {}, taken: nothing },
    ...{ capacity: undefined, problem: "it does not answer", hint: "start flintlockd", isDrained: false },
  };
  const place = (jobId: number) => (jobId === 4711 ? "flintlock/metal-1" : undefined);
  const cooldown = { failures: 2, error: "image is missing", until: now + 1_500 };
  const others = { key: "job:1", name: "startMachine job 1", since: now, cooldown };
  const work = [
    { key: "job:4711", name: "startMachine job 4711", since: now, cooldown },
    { key: "status:4711", name: "checkStatus job 4711", since: now, cooldown },
    others,
  ];

  expect(blockersOf(aJob(), aStatus({ hosts: [host], place, work }), now)).toEqual([
    "startMachine job 4711 failed (2 times, last: image is missing) and is tried again in 1.5 s",
    "checkStatus job 4711 failed (2 times, last: image is missing) and is tried again in 1.5 s",
    "flintlock/metal-1: it does not answer (start flintlockd)",
  ]);
});

test("a job waits for a pool that is gone, and for rounds that fail", () => {
  const lastRound = { error: "the database is locked" };

  expect(blockersOf(aJob(), aStatus({ pools: [], lastRound }), now)).toEqual([
    "the last round failed: the database is locked",
    "its pool small is not configured any more",
  ]);
});

test("nothing is in the way of a job that runs, nor of one that is over", () => {
  const broken = aStatus({ pools: [] });

  expect(blockersOf(aJob({ state: "running" }), broken, now)).toEqual([]);
  expect(blockersOf(aJob({ state: "finished" }), broken, now)).toEqual([]);
});
