import { expect, test } from "vitest";
import { type FigureReads, readFigures } from "./figures.ts";
import type { ClaimingState, HostState, PoolState } from "./ports.ts";

const host: HostState = {
  key: "qemu",
  driver: "qemu",
  host: "local",
  labels: {},
  taken: { cpus: 1, memoryMib: 1, diskMib: 1, machines: 1 },
  capacity: undefined,
  problem: undefined,
  hint: undefined,
  isDrained: false,
};
const polling: ClaimingState = {
  pool: "small",
  state: "polling",
  reason: undefined,
  until: undefined,
  fatal: false,
};
const healthy: PoolState = { pool: "small", ok: true, problems: [], accelerator: undefined };

interface Changes extends Partial<FigureReads> {
  readonly claiming?: readonly ClaimingState[];
  readonly poolHealth?: readonly PoolState[];
  readonly hosts?: readonly HostState[];
  readonly fetching?: readonly string[];
  readonly mode?: "run" | "drain";
}

function reads(changes: Changes = {}): FigureReads {
  const {
    claiming = [polling],
    poolHealth = [healthy],
    hosts = [host],
    fetching = [],
    mode = "run",
  } = changes;
  return {
    scheduler: {
      mode: () => mode,
      poolHealth: () => poolHealth,
      status: () => ({
        ...{ hosts, pools: poolHealth, fetching: new Set(fetching), lastRound: undefined },
        work: [
          { key: "job:1", name: "starting", cooldown: undefined },
          { key: "job:2", name: "starting", cooldown: { failures: 1, error: "no", until: 9 } },
        ],
        blocker: () => undefined,
        place: () => undefined,
      }),
    },
    claimer: { status: () => claiming },
    pools: () => new Map(),
    outage: () => undefined,
    tokenProblem: () => undefined,
    tagged: undefined,
    unfinishedJobs: async () => [],
    driversInUse: () => new Set(["qemu"]),
    pendingJobs: undefined,
    ...changes,
  };
}

const job = (id: number, tags: readonly string[], createdAt: number) => ({ id, createdAt, route: { tags } });

test("jobs that wait in GitLab are counted by what they wait for", async () => {
  const pool = (name: string, changes: Partial<ClaimingState> = {}) => ({
    ...polling,
    pool: name,
    ...changes,
  });
  const { waiting, oldestWaitingSince, unservable } = await readFigures(
    reads({
      claiming: [
        pool("tags:a"),
        pool("tags:full", { reason: "no host has room" }),
        pool("tags:broken", { reason: "GitLab answers 500", until: 5 }),
        pool("tags:refused", { reason: "the token was refused", fatal: true }),
      ],
      pendingJobs: {
        pending: () => [
          job(1, ["a"], 500),
          job(2, ["full"], 400),
          job(3, ["broken"], 600),
          job(4, ["refused"], 600),
          job(5, ["z", "new"], 300),
        ],
        unservable: () => [{ cause: "size" }, { cause: "size" }, { cause: "tags" }],
        isPerJob: () => false,
        pools: () => new Set(["tags:a", "tags:full", "tags:broken", "tags:refused"]),
      },
    }),
  );

  expect(Object.fromEntries(waiting)).toEqual({ asked: 1, capacity: 1, refused: 2, runner: 1 });
  expect(oldestWaitingSince).toBe(300);
  expect(Object.fromEntries(unservable)).toEqual({ size: 2, tags: 1 });
});

test("a job with a runner of its own is looked for by its id", async () => {
  const { waiting } = await readFigures(
    reads({
      claiming: [],
      pendingJobs: {
        pending: () => [job(1, ["a"], 500), job(2, ["a"], 400)],
        unservable: () => [],
        isPerJob: () => true,
        pools: () => new Set(["job:1", "tags:a"]),
      },
    }),
  );

  expect(Object.fromEntries(waiting)).toEqual({ asked: 1, runner: 1 });
});

test("jobs here are counted by state, and those without their payload by what they wait for", async () => {
  const here = (
    state: "claimed" | "starting" | "running" | "failing",
    claimedAt: number,
    machineId: string | null,
  ) => {
    return { pool: "small", state, claimedAt, machineId };
  };
  const { jobs, jobsByPool, waiting, oldestWaitingSince } = await readFigures(
    reads({
      fetching: ["fr-a"],
      unfinishedJobs: async () => [
        here("running", 10, "fr-x"),
        here("failing", 20, "fr-y"),
        here("claimed", 50, null),
        here("starting", 40, "fr-a"),
        here("starting", 60, "fr-b"),
      ],
    }),
  );

  expect(Object.fromEntries(jobs)).toEqual({ running: 1, failing: 1, claimed: 1, starting: 2 });
  expect(jobsByPool.get("starting")?.get("small")).toBe(2);
  expect(Object.fromEntries(waiting)).toEqual({ machine: 1, images: 1, boot: 1 });
  // A job that runs waits no more, though it is older.
  expect(oldestWaitingSince).toBe(40);
});

test.each<[string, Changes, boolean]>([
  ["well", {}, true],
  ["without its image", { poolHealth: [{ ...healthy, ok: false }] }, false],
  ["whose token is refused", { tokenProblem: () => ({ problem: "refused" }) }, false],
  ["that GitLab refuses to serve", { claiming: [{ ...polling, reason: "x", fatal: true }] }, false],
  ["that waits for room", { claiming: [{ ...polling, reason: "no room" }] }, true],
  ["that was not asked for yet", { claiming: [] }, true],
])("a pool %s", async (_what, changes, isReady) => {
  const figures = await readFigures(reads(changes));

  expect(figures.pools).toEqual([{ pool: "small", isReady }]);
});

test("the whole: hosts, outage, draining, and what is tried again", async () => {
  const calm = await readFigures(reads());
  const troubled = await readFigures(
    reads({
      mode: "drain",
      outage: () => "GitLab has not answered for 3 s",
      hosts: [{ ...host, problem: "no answer", isDrained: true }],
    }),
  );

  expect(calm).toMatchObject({ isReady: true, isDraining: false, gitLabAnswers: true, failingTasks: 1 });
  expect(calm.hosts).toMatchObject([{ isUp: true, isDrained: false }]);
  expect(calm.oldestWaitingSince).toBeUndefined();
  expect(troubled).toMatchObject({ isReady: false, isDraining: true, gitLabAnswers: false });
  expect(troubled.hosts).toMatchObject([{ isUp: false, isDrained: true }]);
});

test("hosts of drivers that nobody asks for matter only as long as machines are on them", async () => {
  const fake = { ...host, driver: "fake", taken: { ...host.taken, machines: 0 } };
  const { hosts } = await readFigures(
    reads({ hosts: [host, { ...fake, key: "empty" }, { ...fake, key: "left", taken: host.taken }] }),
  );

  expect(hosts.map(({ key }) => key)).toEqual(["qemu", "left"]);
});
