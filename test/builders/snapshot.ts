import type { FailureCause } from "../../src/domain/job-end.ts";
import { SchedulerConfig } from "../../src/scheduler/config.ts";
import { type Action, plan } from "../../src/scheduler/plan.ts";
import type { Snapshot } from "../../src/scheduler/snapshot.ts";
import type { Job, Machine } from "../../src/store/store.ts";
import type { DriverMachine, ExitKind } from "../../src/vm/driver.ts";
import { aHostCapacity } from "./host-capacity.ts";
import { someTime } from "./job.ts";

export const policy = SchedulerConfig.parse({});
export const now = someTime + 10_000;
/** The machine of `aJob`. */
export const M = "fr-aaaaaaaa";
export const running: DriverMachine["status"] = { running: true, startedAt: someTime };

export function ended(exit: ExitKind): DriverMachine["status"] {
  return { running: false, exit };
}

export function listing(status: DriverMachine["status"] | undefined, id = M): Snapshot["hosts"] {
  return new Map([["fake", { listed: status ? [{ id, status }] : [], capacity: aHostCapacity() }]]);
}

/** One job and its machine, everything in order and quiet; GitLab has just spoken of the job. */
export function aSnapshot(
  job: Job | undefined,
  machine: Machine | undefined,
  more: Partial<Snapshot> = {},
): Snapshot {
  return {
    jobs: job ? [job] : [],
    machines: machine ? [machine] : [],
    hosts: listing(machine ? running : undefined),
    settled: new Set(machine && machine.state !== "creating" ? [machine.id] : []),
    pools: new Map([["small", { driver: "fake", image: "base", hostLabels: {} }]]),
    listening: new Set(machine ? [machine.id] : []),
    heardAt: new Map(machine ? [[machine.id, now]] : []),
    statusAt: new Map(job ? [[job.id, now]] : []),
    ends: new Map(),
    recheckAt: new Map(),
    starting: new Map(),
    avoidedHosts: new Map(),
    fetchedMs: new Map(),
    placement: "spread",
    since: someTime - 1_000,
    mode: "run",
    ...more,
  };
}

export function planned(snapshot: Snapshot, at = now): Action[] {
  return plan(snapshot, policy, at);
}

export const failed = (reason: unknown, cause: FailureCause = "machine") => ({
  kind: "failJob",
  jobId: 4711,
  reason,
  cause,
});

export const retried = (reason: unknown, counts = true) => ({
  ...{ kind: "retryJob", jobId: 4711, machineId: M, reason, counts },
});
