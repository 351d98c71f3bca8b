import { systemClock } from "../../src/base/clock.ts";
import { newMachineId } from "../../src/base/ids.ts";
import { silentLog } from "../../src/base/log.ts";
import { hostKey } from "../../src/domain/placement.ts";
import { SchedulerConfig } from "../../src/scheduler/config.ts";
import { createHealth } from "../../src/scheduler/health.ts";
import type { Observed } from "../../src/scheduler/observe.ts";
import { plan } from "../../src/scheduler/plan.ts";
import { createRefusals } from "../../src/scheduler/refusals.ts";
import { startsIn } from "../../src/scheduler/snapshot.ts";
import { composeStatus as schedulerStatus } from "../../src/scheduler/status.ts";
import type { Store } from "../../src/store/store.ts";
import type { DaemonReads } from "../../src/views/ports.ts";
import { readReadiness } from "../../src/views/readiness.ts";
import { composeStatus, describeDaemon } from "../../src/views/status.ts";
import { createViews } from "../../src/views/views.ts";
import { createFakeFleetDriver } from "../../src/vm/fake/driver.ts";
import { createFakeHost } from "../../src/vm/fake/host.ts";
import { createFleet } from "../../src/vm/fleet.ts";
import { aHostCapacity } from "../../test/builders/host-capacity.ts";
import { aClaim } from "../../test/builders/job.ts";
import { aNewMachine } from "../../test/builders/machine.ts";
import { aPool } from "../../test/builders/pool.ts";
import { aStore } from "../../test/builders/store.ts";
import { type BenchContext, compare, type Figure, type Row } from "../core/figure.ts";
import { summarize } from "../core/statistics.ts";
import { benchImage } from "../parts/components.ts";

interface Load {
  readonly hosts: number;
  readonly claimed: number;
}

const MACHINES_PER_HOST = 40;
const POOLS = 20;
const LIMIT_MS = 60;
const LARGE: Load = { hosts: 50, claimed: 1_000 };
const SMALL: Load = { hosts: 5, claimed: 100 };
const questions = ["status", "readyz", "plan"] as const;

type Times = Readonly<Record<(typeof questions)[number], number[]>>;

export const queue: Figure = {
  name: "queue",
  title: "A long queue before full hosts",
  about: `What is asked every second while ${count(LARGE.claimed)} claimed jobs of ${POOLS} pools wait, on ${LARGE.hosts} hosts that are full with ${count(LARGE.hosts * MACHINES_PER_HOST)} machines: \`status\` as JSON, with its rows from a real store in memory, \`/readyz\`, and one call of the scheduler's plan when all that wait are past their start limit, so that each gets its reason; beside each the same with a tenth of all that. In turns, after some that are not counted, with nothing remembered from one to the next.`,
  machines: false,
  limitMs: 180_000,
  async measure(context) {
    const turns = context.quick ? 3 : 50;
    const large = await prepare(context, context.quick ? SMALL : LARGE);
    const small = await prepare(context, SMALL);
    const times = { large: noTimes(), small: noTimes() };
    for (let turn = -Math.ceil(turns / 10); turn < turns; turn++)
      for (const question of questions) {
        const [smallMs, largeMs] = [await timeOf(small[question]), await timeOf(large[question])];
        if (turn < 0) continue;
        times.small[question].push(smallMs);
        times.large[question].push(largeMs);
      }
    return summarizeQueue(times);
  },
};

function summarizeQueue({ large, small }: Readonly<Record<"large" | "small", Times>>): Row[] {
  const promised = { of: "median", bound: "at most", value: LIMIT_MS } as const;
  const names = { status: "`status`", readyz: "`/readyz`", plan: "a plan past the start limit" };
  return questions.map((question) =>
    compare(
      { what: names[question], unit: "ms", measured: summarize(large[question]), promised },
      "a tenth of it",
      summarize(small[question]),
    ),
  );
}

function count(number: number): string {
  return number.toLocaleString("en");
}

function noTimes(): Times {
  return { status: [], readyz: [], plan: [] };
}

async function timeOf(ask: () => unknown): Promise<number> {
  const startedAt = performance.now();
  await ask();
  return performance.now() - startedAt;
}

type Asked = Readonly<Record<(typeof questions)[number], () => unknown>>;

async function prepare(context: BenchContext, load: Load): Promise<Asked> {
  const test = await aStore({ clock: systemClock });
  context.defer(() => test[Symbol.asyncDispose]());
  const { store } = test;
  await fill(store, load);
  const fleet = createFleet(Array.from({ length: load.hosts }, (_, index) => fakeHost(index)));
  context.defer(() => fleet.close());
  const pools = new Map(
    Array.from({ length: POOLS }, (_, index) => aPool({ name: poolName(index) })).map((pool) => [
      pool.name,
      pool,
    ]),
  );
  const refusals = createRefusals({ clock: systemClock, random: Math.random });
  const health = createHealth({
    ...{ fleet, refusals, clock: systemClock, log: silentLog },
    images: { resolve: async () => ({ ...benchImage, runnerInfo: {} }) },
    pools: () => pools,
    disk: { freeBytes: async () => 2, minFreeBytes: 1 },
  });
  await health.refresh(AbortSignal.timeout(30_000));
  const now = Date.now();
  const policy = SchedulerConfig.parse({});
  const seen = await observed(store, load, pools, now);
  const reads: DaemonReads = {
    scheduler: {
      mode: () => "run",
      poolHealth: health.all,
      status() {
        const last = { report: undefined, seen, starts: startsIn(seen) };
        const rounds = { mode: () => "run" as const, since: now, last: () => last, work: () => [] };
        return schedulerStatus({ rounds, pools: health.all(), fleet, drained: new Set(), refusals });
      },
    },
    claimer: { status: () => [] },
    pools: () => pools,
    facts: () => ({
      ...{ version: "0", startedAt: now, configFile: undefined, stateDirectory: "", gitlabUrl: "" },
      neededAbilities: [],
    }),
    outage: () => undefined,
    tokenProblem: () => undefined,
    notices: () => [],
    tagged: undefined,
  };
  const views = createViews({ store, now: Date.now });
  const late = now + 3 * policy.startLimit;
  return {
    async status() {
      const text = JSON.stringify(await composeStatus({ status: () => describeDaemon(reads) }, views));
      if (text.split('"state":"claimed"').length <= load.claimed)
        throw new Error("status does not show all jobs");
    },
    readyz() {
      if (!readReadiness(reads).ready) throw new Error("it is not ready");
    },
    plan() {
      const failed = plan(seen, policy, late).filter(({ kind }) => kind === "failJob").length;
      if (failed < load.claimed) throw new Error(`${failed} jobs fail instead of ${load.claimed}`);
    },
  };
}

function poolName(index: number): string {
  return `pool-${index % POOLS}`;
}

const capacity = { cpus: 1_000, memoryMib: 1_000_000, machines: MACHINES_PER_HOST };

function hostName(index: number): string {
  return `metal-${index}`;
}

function fakeHost(index: number) {
  return createFakeFleetDriver({ host: createFakeHost(systemClock), name: hostName(index), capacity });
}

/** By way of the store itself: the first jobs run and fill the hosts, the others are claimed. */
async function fill(store: Store, { hosts, claimed }: Load): Promise<void> {
  const machines = hosts * MACHINES_PER_HOST;
  for (let jobId = 1; jobId <= machines + claimed; jobId++) {
    const pool = poolName(jobId);
    await store.claim(aClaim({ jobId, pool }));
    if (jobId > machines) continue;
    const id = newMachineId();
    await store.startJob(jobId, aNewMachine({ id, pool, host: hostName(jobId % hosts) }));
    await store.markBooting(id);
    await store.markReady(id);
    await store.handOver(jobId, id);
  }
}

/** What a round sees then. All machines are well. */
async function observed(
  store: Store,
  { hosts }: Load,
  pools: Observed["pools"],
  now: number,
): Promise<Observed> {
  const jobs = await store.jobs({ unfinished: true });
  const machines = await store.machines({ live: true });
  const ids = new Set(machines.map(({ id }) => id));
  const onHost = Map.groupBy(machines, hostKey);
  const keys = Array.from({ length: hosts }, (_, index) =>
    hostKey({ driver: "fake", host: hostName(index) }),
  );
  return {
    ...{ jobs, machines, pools, settled: ids, listening: ids },
    hosts: new Map(
      keys.map((key) => [
        key,
        {
          capacity: aHostCapacity({ key, capacity, images: new Set(["base"]) }),
          listed: (onHost.get(key) ?? []).map(({ id }) => ({
            id,
            status: { running: true, startedAt: now } as const,
          })),
        },
      ]),
    ),
    hostProblems: new Map(),
    placement: "spread",
    starting: new Map(),
    avoidedHosts: new Map(),
    fetchedMs: new Map(),
    heardAt: new Map(machines.map(({ id }) => [id, now])),
    ends: new Map(),
    statusAt: new Map(jobs.map(({ id }) => [id, now])),
    recheckAt: new Map(),
    since: now,
    mode: "run",
  };
}
