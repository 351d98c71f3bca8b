import { newMachineId } from "../../src/base/ids.ts";
import { SchedulerConfig } from "../../src/scheduler/config.ts";
import { plan } from "../../src/scheduler/plan.ts";
import type { HostView, Snapshot } from "../../src/scheduler/snapshot.ts";
import type { Job, Machine } from "../../src/store/store.ts";
import type { DriverMachine } from "../../src/vm/driver.ts";
import { aHostCapacity } from "../../test/builders/host-capacity.ts";
import { aJob } from "../../test/builders/job.ts";
import { aMachine } from "../../test/builders/machine.ts";
import { aPool } from "../../test/builders/pool.ts";
import { compare, type Figure, type Row } from "../core/figure.ts";
import { quantile, summarize } from "../core/statistics.ts";

const HOSTS = 100;
const LIVE = 10_000;
const WAITING = 200;
const LIMIT_MS = 50;
const now = Date.now();

export const placement: Figure = {
  name: "placement",
  title: `Planning ${LIVE.toLocaleString("en")} machines on ${HOSTS} hosts`,
  about: `One call of the scheduler's plan on a snapshot with ${LIVE.toLocaleString("en")} running machines and their jobs on ${HOSTS} hosts, and ${WAITING} claimed jobs that all get a host; beside it the same ${WAITING} jobs on the same hosts, empty. In turns, after some that are not counted. What a round does besides, reading rows and asking hosts, is not in it.`,
  machines: false,
  limitMs: 120_000,
  async measure(context) {
    const count = context.quick ? 10 : 300;
    const live = context.quick ? 200 : LIVE;
    const full = aSnapshot(live);
    const empty = aSnapshot(0);
    const times = { full: [] as number[], empty: [] as number[] };
    for (let turn = -count / 10; turn < count; turn++) {
      const pair = { empty: timeOf(empty), full: timeOf(full) };
      if (turn < 0) continue;
      times.empty.push(pair.empty);
      times.full.push(pair.full);
    }
    return summarizePlacement(times);
  },
};

export function summarizePlacement(times: Readonly<Record<"full" | "empty", readonly number[]>>): Row[] {
  const promised = { of: "median", bound: "at most", value: LIMIT_MS } as const;
  const p99 = (samples: readonly number[]) => summarize([quantile(samples, 0.99)]);
  const row = { what: "a round's plan", unit: "ms", measured: summarize(times.full), promised } as const;
  const slowest = {
    what: "of them the 99th percentile",
    unit: "ms",
    measured: p99(times.full),
    promised,
  } as const;
  return [
    compare(row, "empty hosts", summarize(times.empty)),
    compare(slowest, "empty hosts", p99(times.empty)),
  ];
}

const policy = SchedulerConfig.parse({});

function timeOf(snapshot: Snapshot): number {
  const startedAt = performance.now();
  const actions = plan(snapshot, policy, now);
  const tookMs = performance.now() - startedAt;
  const starts = actions.filter(({ kind }) => kind === "startMachine").length;
  if (starts !== WAITING || actions.length !== WAITING)
    throw new Error(
      `${actions.length} actions were planned, ${starts} of them starts, instead of ${WAITING}`,
    );
  return tookMs;
}

/** Everything runs as it should, so that nothing has to be done but to start what waits. */
function aSnapshot(live: number): Snapshot {
  const pool = aPool({ driver: "flintlock" });
  const machines = Array.from({ length: live }, (_, index) => aRunningMachine(index));
  const running = machines.map((machine, index) => aRunningJob(machine, index));
  const waiting = Array.from({ length: WAITING }, (_, index) =>
    aJob({ id: LIVE + index + 1, claimedAt: now }),
  );
  const ids = new Set(machines.map(({ id }) => id));
  const onHost = Map.groupBy(machines, ({ host }) => host);
  return {
    jobs: [...running, ...waiting],
    machines,
    hosts: new Map(
      Array.from({ length: HOSTS }, (_, host) => viewOf(`metal-${host}`, onHost.get(`metal-${host}`) ?? [])),
    ),
    placement: "spread",
    settled: ids,
    pools: new Map([[pool.name, pool]]),
    starting: new Map(),
    avoidedHosts: new Map(),
    fetchedMs: new Map(),
    listening: ids,
    heardAt: new Map(machines.map(({ id }) => [id, now])),
    ends: new Map(),
    statusAt: new Map(running.map(({ id }) => [id, now])),
    recheckAt: new Map(),
    since: now,
    mode: "run",
  };
}

function aRunningMachine(index: number): Machine {
  const host = `metal-${index % HOSTS}`;
  return aMachine({ id: newMachineId(), jobId: index + 1, state: "busy", driver: "flintlock", host });
}

function aRunningJob({ id, jobId }: Machine, index: number): Job {
  const times = { claimedAt: now, startingAt: now, runningAt: now };
  return aJob({ id: jobId ?? index, state: "running", machineId: id, ...times });
}

function viewOf(name: string, machines: readonly Machine[]): [string, HostView] {
  const key = `flintlock/${name}`;
  const capacity = { cpus: 128, memoryMib: 131_072, machines: 128 };
  const host = aHostCapacity({ key, driver: "flintlock", capacity, images: new Set(["base"]) });
  const running = { running: true, startedAt: now } as const;
  return [
    key,
    { capacity: host, listed: machines.map(({ id }): DriverMachine => ({ id, status: running })) },
  ];
}
