/**
 * What is being done right now. Every action runs on a lane named after what it changes; a lane carries one action at a
 * time, and after a failure it rests for a while. Rounds never wait for lanes, so a call that hangs holds up nothing but
 * its own job or machine.
 */

import { type BackoffLimits, backoffMs } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import { startDeadline, withDeadline } from "../base/deadline.ts";
import { describeError } from "../base/errors.ts";
import { limitOf } from "./errors.ts";

export interface Task {
  readonly lane: string;
  /** What is done, in words: `create fr-…`. */
  readonly name: string;
  readonly limitMs: number;
  /** Holds the task back until there is room beside others of its kind. */
  readonly limiter: <Value>(work: () => Promise<Value>) => Promise<Value>;
  readonly work: (signal: AbortSignal) => Promise<Cooldown | undefined>;
  /** Its end changes nothing that a round looks at, or tells of it by itself: `onFree` is then for those only that were turned away. */
  readonly isQuiet?: boolean;
  /** Hears of a failure before the lane rests. */
  readonly onFailure: (error: unknown, failures: number) => void;
}

/** Asks for a pause of the lane though nothing failed. */
export interface Cooldown {
  readonly restMs: number;
}

export interface TaskStatus {
  readonly lane: string;
  readonly name: string;
  /** Epoch ms. */
  readonly since: number;
  /** Failures in a row, the last of them in words, and when it is tried again; for a lane that rests. */
  readonly resting: { readonly failures: number; readonly error: string; readonly until: number } | undefined;
}

interface Running {
  readonly name: string;
  readonly since: number;
  readonly controller: AbortController;
  readonly ended: Promise<void>;
  /** Somebody wanted the lane meanwhile. */
  isWanted: boolean;
}

interface Resting {
  readonly name: string;
  readonly since: number;
  readonly failures: number;
  readonly error: string;
  readonly until: number;
}

export interface TaskQueue {
  /** Starts the task and returns true, unless its lane is taken or rests. */
  start(task: Task): boolean;
  /** What runs on a lane, by its name. */
  running(lane: string): string | undefined;
  /** Aborts what runs on a lane. */
  abort(lane: string, reason: unknown): void;
  status(): TaskStatus[];
  /** Forgets the rests of lanes that nobody will use again. */
  forget(isDead: (lane: string) => boolean): void;
  /** Resolves when everything ended; what has not by `limitMs` is aborted with `reason` and waited for. */
  settle(limitMs: number, reason: unknown): Promise<void>;
}

const limits: BackoffLimits = { baseMs: 500, capMs: 60_000 };

export function createTaskQueue(deps: {
  readonly clock: Clock;
  readonly random: () => number;
  /** A lane is free again, and somebody may have something to do on it. */
  readonly onFree: () => void;
}): TaskQueue {
  const { clock, random, onFree } = deps;
  const running = new Map<string, Running>();
  const resting = new Map<string, Resting>();

  function start(task: Task): boolean {
    const other = running.get(task.lane);
    if (other) other.isWanted = true;
    if (other || (resting.get(task.lane)?.until ?? 0) > clock.now()) return false;
    const controller = new AbortController();
    const since = clock.now();
    const ended = task
      .limiter(() => withDeadline(clock, limitOf(task.name, task.limitMs, controller.signal), task.work))
      .then(
        (rest) => succeed(task, since, rest),
        (error: unknown) => fail(task, since, error),
      )
      .then(() => {
        const isWanted = running.get(task.lane)?.isWanted;
        running.delete(task.lane);
        if (isWanted || !task.isQuiet) onFree();
      });
    running.set(task.lane, { name: task.name, since, controller, ended, isWanted: false });
    return true;
  }

  function succeed(task: Task, since: number, rest: Cooldown | undefined): void {
    if (!rest) resting.delete(task.lane);
    else
      resting.set(task.lane, {
        name: task.name,
        since,
        failures: 0,
        error: "",
        until: clock.now() + rest.restMs,
      });
  }

  function fail(task: Task, since: number, error: unknown): void {
    const failures = (resting.get(task.lane)?.failures ?? 0) + 1;
    const until = clock.now() + backoffMs(failures, random, limits);
    resting.set(task.lane, { name: task.name, since, failures, error: describeError(error), until });
    task.onFailure(error, failures);
  }

  async function settle(limitMs: number, reason: unknown): Promise<void> {
    const patience = startDeadline(clock, limitMs);
    patience.signal.addEventListener("abort", () => {
      for (const { controller } of running.values()) controller.abort(reason);
    });
    while (running.size > 0) await Promise.all([...running.values()].map(({ ended }) => ended));
    patience.clear();
  }

  return {
    start,
    settle,
    running: (lane) => running.get(lane)?.name,
    abort: (lane, reason) => running.get(lane)?.controller.abort(reason),
    status: () => statusOf(running, resting),
    forget: (isDead) => {
      for (const lane of [...resting.keys()].filter(isDead)) resting.delete(lane);
    },
  };
}

function statusOf(
  running: ReadonlyMap<string, Running>,
  resting: ReadonlyMap<string, Resting>,
): TaskStatus[] {
  const failed = [...resting].filter(([lane, { failures }]) => failures > 0 && !running.has(lane));
  return [
    ...[...running].map(([lane, { name, since }]) => ({ lane, name, since, resting: undefined })),
    ...failed.map(([lane, { name, since, ...rest }]) => ({ lane, name, since, resting: rest })),
  ];
}
