/**
 * What is counted of the running program for whoever draws it over time: how many jobs wait for what, which pools and hosts are well, what is
 * taken. Read from what modules keep in memory, whole lists at a time, never one job by itself.
 */
import { pendingPoolName, type UnservableCause } from "../domain/routing.ts";
import type { Capacity, Taken } from "../domain/size.ts";
import type { JobState } from "../domain/states.ts";
import type { Job } from "../store/store.ts";
import type { ClaimingState, DaemonReads, PendingJobState } from "./ports.ts";
import { canBeAsked, isAskingInVain, readReadiness } from "./readiness.ts";

/** What a job waits for, from its first being seen in GitLab to the payload in its machine. */
export type WaitingCause = "runner" | "asked" | "refused" | "capacity" | "machine" | "images" | "boot";

interface HostFigures {
  readonly key: string;
  /** It answers, and gets new machines. */
  readonly isUp: boolean;
  readonly isDrained: boolean;
  readonly taken: Taken;
  /** Undefined while it is not known. */
  readonly capacity: Capacity | undefined;
}

export interface Figures {
  readonly isReady: boolean;
  /** No new jobs are taken. */
  readonly isDraining: boolean;
  readonly gitLabAnswers: boolean;
  /** By state. */
  readonly jobs: ReadonlyMap<JobState, number>;
  readonly jobsByPool: ReadonlyMap<JobState, ReadonlyMap<string, number>>;
  readonly waiting: ReadonlyMap<WaitingCause, number>;
  /** Epoch ms from when on that job waits that has waited longest; undefined when none does. */
  readonly oldestWaitingSince: number | undefined;
  readonly unservable: ReadonlyMap<UnservableCause, number>;
  /** Of the configuration, and what jobs by tag boot. */
  readonly pools: readonly { readonly pool: string; readonly isReady: boolean }[];
  readonly hosts: readonly HostFigures[];
  readonly failingTasks: number;
}

export interface FigureReads
  extends Pick<DaemonReads, "scheduler" | "claimer" | "pools" | "outage" | "tokenProblem" | "tagged"> {
  unfinishedJobs(): Promise<readonly Pick<Job, "pool" | "state" | "claimedAt" | "machineId">[]>;
  /** Of machines that pools may ask for: hosts of others do not matter here. */
  driversInUse(): ReadonlySet<string>;
  /** Undefined where no jobs by tag are served. */
  readonly pendingJobs: PendingFigureReads | undefined;
}

export interface PendingFigureReads {
  pending(): readonly Pick<PendingJobState, "id" | "createdAt" | "route">[];
  unservable(): readonly { readonly cause: UnservableCause }[];
  /** Each job has a runner, and so a pool, of its own. */
  isPerJob(): boolean;
  /** By name, the pools whose runner there is. */
  pools(): { has(pool: string): boolean };
}

export async function readFigures(reads: FigureReads): Promise<Figures> {
  const { scheduler, claimer, pools, outage, tokenProblem, pendingJobs } = reads;
  const jobs = await reads.unfinishedJobs();
  const { hosts, work, fetching } = scheduler.status();
  const claiming = claimer.status();
  const here = jobs.flatMap((job) => waitHere(job, fetching) ?? []);
  const pending = pendingJobs ? waitsInGitLab(pendingJobs, claiming) : [];
  const waits = [...here, ...pending];
  const inUse = reads.driversInUse();
  return {
    isReady: readReadiness(reads).ready,
    isDraining: scheduler.mode() !== "run",
    gitLabAnswers: outage() === undefined,
    jobs: countBy(jobs, ({ state }) => state),
    jobsByPool: new Map(
      [...Map.groupBy(jobs, ({ state }) => state)].map(([state, own]) => [
        state,
        countBy(own, ({ pool }) => pool),
      ]),
    ),
    waiting: countBy(waits, ({ cause }) => cause),
    oldestWaitingSince: waits.reduce<number | undefined>((oldest, { since }) => {
      return oldest === undefined || since < oldest ? since : oldest;
    }, undefined),
    unservable: countBy(pendingJobs?.unservable() ?? [], ({ cause }) => cause),
    pools: scheduler
      .poolHealth()
      .filter(({ pool }) => pools().get(pool)?.origin.kind !== "tags")
      .map(({ pool, ok }) => {
        return { pool, isReady: ok && tokenProblem(pool) === undefined && canBeAsked(pool, claiming) };
      }),
    hosts: hosts
      .filter(({ driver, taken }) => taken.machines > 0 || inUse.has(driver))
      .map(({ key, problem, isDrained, taken, capacity }) => {
        return { key, isUp: problem === undefined, isDrained, taken, capacity };
      }),
    failingTasks: work.filter(({ cooldown }) => cooldown !== undefined).length,
  };
}

interface Wait {
  readonly cause: WaitingCause;
  /** Epoch ms. */
  readonly since: number;
}

/** Of a job that was claimed and has no payload in a machine yet. */
function waitHere(
  { state, claimedAt, machineId }: Pick<Job, "state" | "claimedAt" | "machineId">,
  fetching: ReadonlySet<string>,
): Wait | undefined {
  if (state === "claimed") return { cause: "machine", since: claimedAt };
  if (state !== "starting") return undefined;
  return { cause: machineId !== null && fetching.has(machineId) ? "images" : "boot", since: claimedAt };
}

function waitsInGitLab(reads: PendingFigureReads, claiming: readonly ClaimingState[]): Wait[] {
  const pools = reads.pools();
  const isPerJob = reads.isPerJob();
  const byPool = new Map(claiming.map((each) => [each.pool, each]));
  return reads.pending().map((job) => {
    const pool = pendingPoolName(job, isPerJob);
    return { cause: pools.has(pool) ? causeOf(byPool.get(pool)) : "runner", since: job.createdAt };
  });
}

function causeOf(claiming: ClaimingState | undefined): WaitingCause {
  if (claiming?.reason === undefined) return "asked";
  return isAskingInVain(claiming) ? "refused" : "capacity";
}

function countBy<Item, Key>(items: readonly Item[], keyOf: (item: Item) => Key): Map<Key, number> {
  const counts = new Map<Key, number>();
  for (const item of items) counts.set(keyOf(item), (counts.get(keyOf(item)) ?? 0) + 1);
  return counts;
}
