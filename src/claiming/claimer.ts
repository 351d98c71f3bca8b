/**
 * How jobs are taken from GitLab, told from here.
 *
 * A job is asked for only when a machine for it could start now: the claimer reserves a slot (`slots.ts`: capacity on a host, less
 * machines, jobs and open polls), sends a poll (`poller.ts`), and makes the job that comes back durable before anything else
 * happens, or ends it in GitLab (`claimed-job.ts`). When each runner is asked, and whether GitLab may hold the request, is decided
 * by `poll-schedule.ts`: while the free capacity covers one machine of every pool, each runner has one long poll open; otherwise
 * those that still fit send short polls by turns. A pool of jobs by tag is asked for as many jobs as are known to wait.
 *
 * One loop does it: woken by ended jobs and machines, by whoever calls `wake`, and every few seconds. A request is never aborted,
 * since GitLab may have decided on a job already; `stop` waits for the open ones.
 */
import { describeError } from "../base/errors.ts";
import { createWakeLoop } from "../base/wake-loop.ts";
import type { Pool } from "../domain/pool.ts";
import type { RunnerInfo } from "../gitlab/runner-api.ts";
import type { EventStore, JobStore } from "../store/store.ts";
import { shortToken } from "./claimed-job.ts";
import { clearWaits, newPollState, noteWanted, type PollState, sendDuePolls } from "./poll-schedule.ts";
import { createPoller, type PollerOptions } from "./poller.ts";
import type { Slots } from "./slots.ts";

/** Longest time until health and other things that nothing announces are looked at again. */
const TICK_MS = 5_000;
/** When the store or a driver could not be read. */
const REREAD_MS = 1_000;

/** Whether a pool's machines can be started at all: image there, hypervisor usable, disk not full. */
export type Health = { readonly ok: true } | { readonly ok: false; readonly problem: string };

interface ClaimerOptions extends Omit<PollerOptions, "store" | "ending" | "onEnd"> {
  readonly store: Pick<JobStore, "claim"> & Pick<EventStore, "onEvent">;
  readonly pools: () => ReadonlyMap<string, Pool>;
  readonly slots: Slots;
  /** What the runner in the pool's image says about itself; undefined while the image is not ready. */
  readonly runnerInfo: (pool: Pool) => RunnerInfo | undefined;
  /** Asked before every poll: must come from memory. Call `wake` when it changes for the better. */
  readonly canClaim: (pool: Pool) => Health;
  /**
   * How many jobs are known to wait for a pool: it is asked for no more than these, and never with a request that GitLab holds.
   * Undefined for a pool whose jobs only GitLab knows of. Must come from memory; call `wake` when it changes.
   */
  readonly wanted?: (pool: string) => number | undefined;
}

export interface Claimer {
  start(): void;
  /** Takes changed pools and tokens, and forgets waits: whatever was wrong may have been put right. */
  reload(): void;
  /** Takes changed pools and tokens; the others go on waiting for what they wait for. */
  poolsChanged(): void;
  /** True while a request is open that may bring a job of this pool. */
  isPolled(pool: string): boolean;
  /** Sends what is due at once: capacity or health may have changed. */
  wake(): void;
  /** Sends nothing more; resolves when every open request was answered and its job taken. */
  stop(): Promise<void>;
  /** Requests that GitLab has not answered, or whose job is not stored yet. */
  openPolls(): number;
  status(): ClaimingStatus[];
}

/** How a pool's jobs are being asked for. */
interface ClaimingStatus {
  readonly pool: string;
  /** The beginning of the runner's token. */
  readonly runner: string;
  readonly state: "polling" | "waiting";
  readonly openPolls: number;
  /** Why nothing is asked for now; undefined when polling. */
  readonly reason: string | undefined;
  /** When GitLab is asked again, if that is known (epoch ms). */
  readonly until: number | undefined;
  /** Somebody has to change something. */
  readonly fatal: boolean;
}

export function createClaimer(options: ClaimerOptions): Claimer {
  const { store, slots, clock, config } = options;
  const runners = new Map<string, PollState>();
  const ending = new AbortController();
  const loop = createWakeLoop(clock, tick);
  const poller = createPoller({ ...options, ending: ending.signal, onEnd: loop.wake });
  let readProblem: string | undefined;
  const unsubscribe = store.onEvent(({ kind }) => {
    if (kind === "job:finished" || kind === "job:failing" || kind === "machine:gone") loop.wake();
  });

  /** Why this pool cannot be polled, whatever is free and whether or not a job waits. */
  function poolBlocker({ pool }: PollState): string | undefined {
    if (ending.signal.aborted) return "FireRunner is ending";
    const unstored = poller.storeProblem();
    if (unstored !== undefined) return `a claimed job cannot be stored: ${unstored}`;
    return readProblem ?? notReady(options, pool);
  }

  async function tick(): Promise<number> {
    try {
      await slots.refresh();
      readProblem = undefined;
    } catch (error) {
      readProblem = `what is free cannot be told: ${describeError(error)}`;
      options.log.error({ err: error }, "free capacity could not be read");
      return clock.now() + REREAD_MS;
    }
    return sendPolls();
  }

  /** Sends every poll that may be sent, and returns when the next tick is due at the latest. */
  function sendPolls(): number {
    const now = clock.now();
    for (const runner of runners.values()) noteWanted(runner, options.wanted?.(runner.pool.name));
    const healthy = [...runners.values()].filter((runner) => poolBlocker(runner) === undefined);
    const { parallelPolls } = config;
    return Math.min(now + TICK_MS, sendDuePolls(healthy, { slots, now, parallelPolls, send }));
  }

  function send(runner: PollState, isShort: boolean): void {
    const info = options.runnerInfo(runner.pool);
    const reservation = info && slots.reserve(runner.pool);
    if (reservation) poller.send(runner, reservation, info, isShort);
  }

  function usePools(change: { readonly forgetWaits: boolean }): void {
    mergePools(runners, options.pools());
    if (change.forgetWaits) for (const runner of runners.values()) clearWaits(runner);
    loop.wake();
  }

  return {
    start() {
      usePools({ forgetWaits: true });
      loop.start();
    },
    reload: () => usePools({ forgetWaits: true }),
    poolsChanged: () => usePools({ forgetWaits: false }),
    isPolled: poller.isPolled,
    wake: loop.wake,
    async stop() {
      ending.abort();
      unsubscribe();
      await loop.stop();
      await poller.settled();
    },
    openPolls: poller.open,
    status: () => [...runners.values()].map((runner) => statusOf(runner, poolBlocker(runner), slots)),
  };
}

/** Why no machine of this pool can be started. */
function notReady({ canClaim, runnerInfo, slots }: ClaimerOptions, pool: Pool): string | undefined {
  const health = canClaim(pool);
  if (!health.ok) return health.problem;
  return runnerInfo(pool) ? slots.impossible(pool) : "its image is not ready";
}

/** A pool whose token has changed begins anew; polls that are still open for the old one end by themselves. */
function mergePools(runners: Map<string, PollState>, pools: ReadonlyMap<string, Pool>): void {
  for (const [name, { pool }] of runners) {
    if (pools.get(name)?.runnerToken.reveal() !== pool.runnerToken.reveal()) runners.delete(name);
  }
  for (const [name, pool] of pools) {
    runners.set(name, Object.assign(runners.get(name) ?? newPollState(pool), { pool }));
  }
}

/** `poolBlocker`: why the pool cannot be asked for, whatever is free. */
function statusOf(runner: PollState, poolBlocker: string | undefined, slots: Slots): ClaimingStatus {
  const { pool, openPolls, problem } = runner;
  const about = { pool: pool.name, runner: shortToken(pool.runnerToken), openPolls };
  const noSlot = openPolls > 0 ? undefined : slots.blocker(pool);
  const idle = runner.wanted === 0 ? "no job with its tags waits in GitLab" : undefined;
  const reason = poolBlocker ?? problem ?? idle ?? noSlot;
  const failing = poolBlocker === undefined && problem !== undefined;
  return {
    ...about,
    state: reason === undefined ? "polling" : "waiting",
    reason,
    until: failing ? runner.waitUntil : undefined,
    fatal: failing && runner.fatal,
  };
}
