import { hostKey, type Labels } from "../domain/placement.ts";
import { type Capacity, occupied, type Taken } from "../domain/size.ts";
import type { Fleet, HostProblem } from "../vm/driver.ts";
import type { PoolHealth } from "./health.ts";
import type { Refusals } from "./refusals.ts";
import type { RoundReport, Rounds } from "./rounds.ts";
import type { Mode } from "./snapshot.ts";
import type { TaskStatus } from "./task-queue.ts";
import { fetchingIn } from "./tasks.ts";

interface HostStatus {
  readonly key: string;
  readonly driver: string;
  readonly host: string;
  readonly labels: Labels;
  readonly taken: Taken;
  /** Undefined while the host could not be asked. */
  readonly capacity: Capacity | undefined;
  /** Why it could not be asked in the last round, or gets nothing new now. */
  readonly problem: string | undefined;
  /** What to do about the problem. */
  readonly hint: string | undefined;
  /** Somebody wants nothing new there. */
  readonly isDrained: boolean;
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
  /** Why a claimed job has no machine yet, in words. */
  blocker(jobId: number): string | undefined;
  /** Where the machine of a job is: the key of a host. */
  place(jobId: number): string | undefined;
  /** Machines that are created once the images of their jobs are here. */
  readonly fetching: ReadonlySet<string>;
  /** What is being done, and what failed and will be repeated. */
  readonly work: readonly TaskStatus[];
}

export function composeStatus(parts: {
  readonly rounds: Pick<Rounds, "mode" | "since" | "last" | "work">;
  readonly pools: readonly PoolHealth[];
  readonly fleet: Pick<Fleet, "hosts">;
  readonly drained: ReadonlySet<string>;
  readonly refusals: Pick<Refusals, "problem">;
}): SchedulerStatus {
  const { rounds, pools, fleet, drained, refusals } = parts;
  const { report, seen, starts } = rounds.last();
  const work = rounds.work();
  const live = (seen?.machines ?? []).filter(({ state }) => state !== "gone");
  const taken = Map.groupBy(live, hostKey);
  const hosts = [...fleet.hosts()].map(([key, driver]): HostStatus => {
    const asked = driver.trouble() ?? problemOf(seen?.hostProblems.get(key));
    const found = asked ?? refusals.problem(key) ?? problemOf(closure(drained, seen, key));
    return {
      key,
      driver: driver.name,
      host: driver.host,
      labels: driver.labels,
      taken: occupied((taken.get(key) ?? []).map(({ size }) => size)),
      capacity: seen?.hosts.get(key)?.capacity?.capacity,
      problem: found?.problem,
      hint: found?.hint,
      isDrained: drained.has(key),
    };
  });
  return {
    mode: rounds.mode(),
    since: rounds.since,
    lastRound: report,
    unfinishedJobs: seen?.jobs.length ?? 0,
    liveMachines: live.length,
    hosts,
    pools,
    blocker(jobId) {
      const job = seen?.jobs.find(({ id }) => id === jobId);
      return job && starts?.blocker(job);
    },
    place(jobId) {
      const machine = live.find((each) => each.jobId === jobId);
      return machine && hostKey(machine);
    },
    work,
    fetching: fetchingIn(work),
  };
}

function problemOf(problem: string | undefined): HostProblem | undefined {
  return problem === undefined ? undefined : { problem, hint: undefined };
}

/** Why nothing new goes to a host that is well and not drained. */
function closure(
  drained: ReadonlySet<string>,
  seen: ReturnType<Rounds["last"]>["seen"],
  key: string,
): string | undefined {
  return drained.has(key) ? undefined : seen?.hosts.get(key)?.capacity?.closed;
}
