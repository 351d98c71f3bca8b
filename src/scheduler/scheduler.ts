/**
 * The scheduler: the only one that starts and ends machines. Something wakes it (an event of the store, a machine's end, a tick), and it
 * does one round, never two at once:
 *
 * 1. observe.ts gathers a snapshot: rows of jobs and machines, what hosts hold (whom it asks), what guests and GitLab have said of late.
 * 2. plan.ts, which is pure and holds all policy, decides by the snapshot (snapshot.ts) and the time what has to be done.
 * 3. tasks.ts begins each action under its key in the queue (task-queue.ts), and the round is over: nobody waits for actions.
 *    actions.ts does them to jobs and machines, job-status.ts asks GitLab whether a job is wanted, report.ts tells it of a failure.
 *
 * rounds.ts is that loop and what it remembers. Beside it health.ts finds out which pools could start machines, refusals.ts keeps hosts
 * away that did not make one, host-capacities.ts is what placement may count on, and status.ts tells people of all of it. Starting up,
 * recovery and the end are ordinary rounds. This file is what others see of it.
 */

import { startDeadline } from "../base/deadline.ts";
import { createListeners } from "../base/listeners.ts";
import type { LifecycleEvent } from "../domain/events.ts";
import type { HostCapacity } from "../domain/placement.ts";
import type { Pool } from "../domain/pool.ts";
import type { RunnerInfo } from "../gitlab/runner-api.ts";
import type { ShutdownConfig } from "./config.ts";
import { SchedulerError } from "./errors.ts";
import { createHealth, type PoolHealth } from "./health.ts";
import { createHostCapacities, type HostCapacities } from "./host-capacities.ts";
import type { DiskWatch, MachineBase } from "./host-probes.ts";
import { createRefusals } from "./refusals.ts";
import { createRounds, type Rounds } from "./rounds.ts";
import type { Mode } from "./snapshot.ts";
import { composeStatus, type SchedulerStatus } from "./status.ts";
import type { TaskDeps } from "./tasks.ts";

/** How long a stop waits for what is being done before it is interrupted. */
const SETTLE_LIMIT_MS = 10_000;
/** When running jobs are ended at shutdown: how long their reports may take. */
const END_LIMIT_MS = 30_000;

export interface SchedulerDeps extends TaskDeps {
  readonly disk: DiskWatch;
  /** Machines that may be wanted at any time though no pool of theirs exists yet, by a name for people. */
  readonly bases?: () => ReadonlyMap<string, MachineBase>;
  readonly shutdown: ShutdownConfig;
}

type Claimability = { readonly ok: true } | { readonly ok: false; readonly problem: string };

export interface Scheduler {
  /** Begins to work; the first round starts at once. */
  start(): void;
  /** A machine whose host is gone for good: it counts as gone, and its job ends or gets another. */
  forgetMachine(machineId: string, reason: string): Promise<void>;
  /** Asks for a round soon. May be called as often as one likes. */
  wake(reason?: string): void;
  /**
   * GitLab is said to have ended this job: it is asked at once, and the machine goes if it is so. Harmless when it is not, or when
   * the job is not ours.
   */
  recheck(jobId: number): void;
  /** No pool may claim any more; jobs go on. */
  drain(): void;
  resume(): void;
  /** Resolves when no job is unfinished and no machine is left; rejects with the signal's reason. */
  whenIdle(signal: AbortSignal): Promise<void>;
  /**
   * Drains for as long as configured, then leaves or ends the jobs that still run, as configured, then stops. `hurry` aborts the
   * waiting: a second SIGTERM. `sinceMs`: how much of the time is over already.
   */
  shutDown(hurry: AbortSignal, sinceMs?: number): Promise<void>;
  /** Stops at once; what is being done settles first. Machines run on. */
  stop(): Promise<void>;
  /** Whether jobs may be claimed for a pool now, and if not, why. */
  canClaim(pool: Pool): Claimability;
  /** What claims may count on: every host, with what it has. An image that was not tried on a host yet is unusable there. */
  capacities(): Promise<readonly HostCapacity[]>;
  /** `info` for the job requests of a pool; undefined while its image is not known. */
  runnerInfo(pool: Pool): RunnerInfo | undefined;
  /** Tells when a pool can start machines now, or no longer. Returns what ends the telling. */
  onHealthChange(listener: () => void): () => void;
  mode(): Mode;
  /** Whether machines can be started, for every pool and for what may be wanted at any time. Cheaper than `status`, which has it too. */
  poolHealth(): readonly PoolHealth[];
  status(): SchedulerStatus;
}

export function createScheduler(deps: SchedulerDeps): Scheduler {
  const { store, clock, config, fleet } = deps;
  const refusals = createRefusals(deps);
  const healthChanges = createListeners<void>();
  const health = createHealth({ ...deps, refusals, onHealthChange: healthChanges.emit });
  const capacities = createHostCapacities({ fleet, health, refusals, store });
  const stopped = new AbortController();
  const onRecovery = (host: string) => {
    refusals.forgive(host);
    void health.refreshHost(host, stopped.signal);
  };
  const rounds = createRounds({ ...deps, capacities, refusals, onRecovery });
  const stopHearing: (() => void)[] = [];
  let loops: Promise<unknown> = Promise.resolve();

  async function watchHealth(): Promise<void> {
    while (!stopped.signal.aborted) {
      await health.refresh(stopped.signal);
      await clock.sleep(config.healthInterval, stopped.signal).catch(() => {});
    }
  }

  function start(): void {
    stopHearing.push(store.onEvent((event) => isNews(event) && rounds.wake(event.kind)));
    stopHearing.push(fleet.onExit((id) => rounds.wake(`${id} ended`)));
    loops = Promise.all([rounds.run(stopped.signal), watchHealth()]);
  }

  async function stop(): Promise<void> {
    const reason = new SchedulerError("scheduler_stopped", "FireRunner is ending");
    stopped.abort(reason);
    for (const each of stopHearing.splice(0)) each();
    await loops;
    await rounds.settle(SETTLE_LIMIT_MS, reason);
  }

  async function shutDown(hurry: AbortSignal, sinceMs = 0): Promise<void> {
    rounds.setMode("drain");
    const limitMs = Math.max(0, deps.shutdown.drainLimit - sinceMs);
    const isDone = await isIdleWithin(deps, rounds, limitMs, hurry);
    if (!isDone && !hurry.aborted && deps.shutdown.onLimit === "end") {
      rounds.setMode("end");
      await isIdleWithin(deps, rounds, END_LIMIT_MS, hurry);
    }
    await stop();
  }

  return {
    start,
    stop,
    shutDown,
    whenIdle: rounds.whenIdle,
    forgetMachine: (machineId, reason) => forgetMachine(deps, machineId, reason),
    wake: (reason = "asked to") => rounds.wake(reason),
    recheck: rounds.recheck,
    drain: () => rounds.setMode("drain"),
    resume: () => rounds.setMode("run"),
    canClaim: (pool) =>
      rounds.mode() === "run"
        ? claimability(health.of(pool.name))
        : { ok: false, problem: "FireRunner takes no new jobs now" },
    capacities: () => refreshed(capacities),
    onHealthChange: healthChanges.add,
    mode: rounds.mode,
    poolHealth: health.all,
    runnerInfo: (pool) => health.of(pool.name).runnerInfo,
    status: () =>
      composeStatus({ rounds, pools: health.all(), fleet, drained: capacities.drained(), refusals }),
  };
}

async function refreshed(capacities: HostCapacities): Promise<readonly HostCapacity[]> {
  await capacities.refresh();
  return await capacities.all("unseen");
}

async function forgetMachine(
  { store, relay }: SchedulerDeps,
  machineId: string,
  reason: string,
): Promise<void> {
  await store.stopMachine(machineId, reason, "host-lost");
  await relay.close(machineId);
  await store.markGone(machineId);
}

/** Events that may call for an action. What guests ask of the proxy does not, nor what is only told of a machine's end. */
function isNews({ kind }: LifecycleEvent): boolean {
  const isTold = kind === "machine:console" || kind === "machine:out-of-memory";
  return (kind.startsWith("job:") || kind.startsWith("machine:")) && !isTold;
}

function claimability({ ok, problems }: PoolHealth): Claimability {
  return ok ? { ok } : { ok: false, problem: problems.map(({ problem }) => problem).join("; ") };
}

/** False when it is not idle after `limitMs`, or as soon as `hurry` aborts. */
async function isIdleWithin({ clock }: SchedulerDeps, rounds: Rounds, limitMs: number, hurry: AbortSignal) {
  const patience = startDeadline(clock, limitMs, hurry);
  const isDone = await rounds.whenIdle(patience.signal).then(
    () => true,
    () => false,
  );
  patience.clear();
  return isDone;
}
