import { describeError } from "../base/errors.ts";
import { createWakeLoop } from "../base/wake-loop.ts";
import type { Pool } from "../domain/pool.ts";
import type { RunnerInfo } from "../gitlab/runner-api.ts";
import type { Store } from "../store/store.ts";
import { type ClaimingStatus, pollingStatus } from "./claiming-status.ts";
import { createPoller, type PollerOptions } from "./poller.ts";
import { clearWaits, newPollState, noteWanted, type PollState } from "./runner-state.ts";
import type { Slots } from "./slots.ts";
import { sendDuePolls } from "./turns.ts";

/** Longest time between two looks at what nothing announces, such as health. */
const TICK_MS = 5_000;
/** When the store or a driver could not be read. */
const REREAD_MS = 1_000;

/** Whether a pool's machines can be started at all: image there, hypervisor usable, disk not full. */
export type Health = { readonly ok: true } | { readonly ok: false; readonly problem: string };

export interface ClaimerOptions extends Omit<PollerOptions, "store" | "ending" | "onEnd"> {
  readonly store: Pick<Store, "claim" | "onEvent">;
  readonly pools: () => ReadonlyMap<string, Pool>;
  readonly slots: Slots;
  /** What the runner in the pool's image says about itself; undefined while the image is not ready. */
  readonly runnerInfo: (pool: Pool) => RunnerInfo | undefined;
  /** Asked before every poll: must answer from memory. Call `wake` when its answer changes for the better. */
  readonly canClaim: (pool: Pool) => Health;
  /**
   * How many jobs are known to wait for a pool: it is asked for no more than these, and never with a request that GitLab holds.
   * Undefined for a pool whose jobs only GitLab knows of. Must answer from memory; call `wake` when its answer changes.
   */
  readonly wanted?: (pool: string) => number | undefined;
}

/**
 * Takes jobs from GitLab: reserves a slot, asks, and makes what it gets durable. While the free capacity covers one machine of
 * every pool, each runner has one long poll open; otherwise those that still fit ask in turn. A request is never aborted, since
 * GitLab may have decided on a job already.
 */
export interface Claimer {
  start(): void;
  /** Takes over changed pools and tokens, and forgets waits: whatever was wrong may have been put right. */
  reload(): void;
  /** Takes over changed pools and tokens; the others go on waiting for what they wait for. */
  poolsChanged(): void;
  /** True while a request is open that may bring a job of this pool. */
  isPolled(pool: string): boolean;
  /** Looks at once: capacity or health may have changed. */
  wake(): void;
  /** Sends nothing more; resolves when every open request was answered and its job taken. */
  stop(): Promise<void>;
  /** Requests that GitLab has not answered, or whose job is not stored yet. */
  openPolls(): number;
  status(): ClaimingStatus[];
}

export function createClaimer(options: ClaimerOptions): Claimer {
  const { store, slots, clock, config } = options;
  const runners = new Map<string, PollState>();
  const ending = new AbortController();
  const loop = createWakeLoop(clock, look);
  const poller = createPoller({ ...options, ending: ending.signal, onEnd: loop.wake });
  let readProblem: string | undefined;
  const forget = store.onEvent(({ kind }) => {
    if (kind === "job:finished" || kind === "job:failing" || kind === "machine:gone") loop.wake();
  });

  /** Why this pool cannot be polled, whatever is free and whether or not a job waits, in words. */
  function hindrance({ pool }: PollState): string | undefined {
    if (ending.signal.aborted) return "FireRunner is ending";
    const unstored = poller.storeProblem();
    if (unstored !== undefined) return `a claimed job cannot be stored: ${unstored}`;
    return readProblem ?? notReady(options, pool);
  }

  async function look(): Promise<number> {
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

  /** Sends every poll that may be sent, and answers when to look again at the latest. */
  function sendPolls(): number {
    const now = clock.now();
    for (const runner of runners.values()) noteWanted(runner, options.wanted?.(runner.pool.name));
    const healthy = [...runners.values()].filter((runner) => hindrance(runner) === undefined);
    return Math.min(now + TICK_MS, sendDuePolls(healthy, { slots, now, parallelPolls: config.parallelPolls, send }));
  }

  function send(runner: PollState, inTurn: boolean): void {
    const info = options.runnerInfo(runner.pool);
    const reservation = info && slots.reserve(runner.pool);
    if (reservation) poller.send(runner, reservation, info, inTurn);
  }

  /** With `pardon`, whatever was wrong may have been put right. */
  function takeOver(pardon: boolean): void {
    mergePools(runners, options.pools());
    if (pardon) for (const runner of runners.values()) clearWaits(runner);
    loop.wake();
  }

  return {
    start() {
      takeOver(true);
      loop.start();
    },
    reload: () => takeOver(true),
    poolsChanged: () => takeOver(false),
    isPolled: poller.isPolled,
    wake: loop.wake,
    async stop() {
      ending.abort();
      forget();
      await loop.stop();
      await poller.settled();
    },
    openPolls: poller.open,
    status: () => [...runners.values()].map((runner) => pollingStatus(runner, hindrance(runner), slots)),
  };
}

/** Why no machine of this pool can be started, in words. */
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
