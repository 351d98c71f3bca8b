import { type Capacity, occupied } from "../lifecycle/size.ts";
import type { VmDriver } from "../vm/driver.ts";
import type { PoolHealth } from "./health.ts";
import type { LaneStatus } from "./lanes.ts";
import type { Mode } from "./plan.ts";
import type { RoundReport, Rounds } from "./rounds.ts";

interface HostStatus {
  readonly driver: string;
  readonly host: string;
  readonly taken: Capacity;
  /** Undefined while the driver could not be asked. */
  readonly capacity: Capacity | undefined;
  /** Why the driver could not be asked in the last round. */
  readonly problem: string | undefined;
}

/** What the scheduler knows of itself, for people. */
export interface SchedulerStatus {
  readonly mode: Mode;
  /** When this process began to look (epoch ms). */
  readonly since: number;
  readonly lastRound: RoundReport | undefined;
  readonly unfinishedJobs: number;
  readonly liveMachines: number;
  readonly hosts: readonly HostStatus[];
  readonly pools: readonly PoolHealth[];
  /** What is being done, and what failed and will be repeated. */
  readonly work: readonly LaneStatus[];
}

export function composeStatus(parts: {
  readonly rounds: Pick<Rounds, "mode" | "since" | "last" | "work">;
  readonly pools: readonly PoolHealth[];
  readonly drivers: ReadonlyMap<string, VmDriver>;
}): SchedulerStatus {
  const { rounds, pools, drivers } = parts;
  const { report, seen } = rounds.last();
  const live = (seen?.machines ?? []).filter(({ state }) => state !== "gone");
  const hosts = [...drivers].map(([name, { host }]) => ({
    driver: name,
    host,
    taken: occupied(live.filter(({ driver }) => driver === name).map(({ size }) => size)),
    capacity: seen?.drivers.get(name)?.capacity,
    problem: seen?.driverProblems.get(name),
  }));
  return {
    mode: rounds.mode(),
    since: rounds.since,
    lastRound: report,
    unfinishedJobs: seen?.jobs.length ?? 0,
    liveMachines: live.length,
    hosts,
    pools,
    work: rounds.work(),
  };
}
