/**
 * The keyed task queue: what is being done right now. Every action runs under a key named after what it changes; one action runs under a
 * key at a time, and after a failure the key has a cooldown. Rounds never wait for actions, so a call that hangs holds up nothing but its
 * own job or machine.
 */

import type { Clock } from "../base/clock.ts";
import { startDeadline, withDeadline } from "../base/deadline.ts";
import { describeError } from "../base/errors.ts";
import { type BackoffLimits, backoffMs } from "../base/rates.ts";
import { limitOf } from "./errors.ts";

export interface Task {
  readonly key: string;
  /** What is done, in words: `create fr-…`. */
  readonly name: string;
  readonly limitMs: number;
  /** Holds the task back until there is room beside others of its kind. */
  readonly limiter: <Value>(work: () => Promise<Value>) => Promise<Value>;
  readonly work: (signal: AbortSignal) => Promise<Cooldown | undefined>;
  /** Its end changes nothing that a round looks at, or tells of it by itself: `onFree` is then for those only that were turned away. */
  readonly isQuiet?: boolean;
  /** Hears of a failure before the cooldown begins. */
  readonly onFailure: (error: unknown, failures: number) => void;
}

/** Asks for a pause though nothing failed. */
export interface Cooldown {
  readonly forMs: number;
}

export interface TaskStatus {
  readonly key: string;
  readonly name: string;
  /** Epoch ms. */
  readonly since: number;
  /** Failures in a row, the last of them in words, and when it is tried again; while it cools down. */
  readonly cooldown:
    | { readonly failures: number; readonly error: string; readonly until: number }
    | undefined;
}

interface Running {
  readonly name: string;
  readonly since: number;
  readonly controller: AbortController;
  readonly ended: Promise<void>;
  /** Somebody wanted the key meanwhile. */
  isWanted: boolean;
}

interface CoolingDown {
  readonly name: string;
  readonly since: number;
  readonly failures: number;
  readonly error: string;
  readonly until: number;
}

export interface TaskQueue {
  /** Starts the task and returns true, unless its key is taken or cools down. */
  start(task: Task): boolean;
  /** The name of what runs under a key. */
  running(key: string): string | undefined;
  /** Aborts what runs under a key. */
  abort(key: string, reason: unknown): void;
  status(): TaskStatus[];
  /** Forgets the cooldowns of keys that nobody will use again. */
  forget(isDead: (key: string) => boolean): void;
  /** Resolves when everything ended; what has not by `limitMs` is aborted with `reason` and waited for. */
  settle(limitMs: number, reason: unknown): Promise<void>;
}

const limits: BackoffLimits = { baseMs: 500, capMs: 60_000 };

export function createTaskQueue(deps: {
  readonly clock: Clock;
  readonly random: () => number;
  /** A key is free again, and somebody may have something to do under it. */
  readonly onFree: () => void;
}): TaskQueue {
  const { clock, random, onFree } = deps;
  const running = new Map<string, Running>();
  const coolingDown = new Map<string, CoolingDown>();

  function start(task: Task): boolean {
    const other = running.get(task.key);
    if (other) other.isWanted = true;
    if (other || (coolingDown.get(task.key)?.until ?? 0) > clock.now()) return false;
    const controller = new AbortController();
    const since = clock.now();
    const ended = task
      .limiter(() => withDeadline(clock, limitOf(task.name, task.limitMs, controller.signal), task.work))
      .then(
        (cooldown) => succeed(task, since, cooldown),
        (error: unknown) => fail(task, since, error),
      )
      .then(() => {
        const isWanted = running.get(task.key)?.isWanted;
        running.delete(task.key);
        if (isWanted || !task.isQuiet) onFree();
      });
    running.set(task.key, { name: task.name, since, controller, ended, isWanted: false });
    return true;
  }

  function succeed(task: Task, since: number, cooldown: Cooldown | undefined): void {
    if (!cooldown) coolingDown.delete(task.key);
    else
      coolingDown.set(task.key, {
        name: task.name,
        since,
        failures: 0,
        error: "",
        until: clock.now() + cooldown.forMs,
      });
  }

  function fail(task: Task, since: number, error: unknown): void {
    const failures = (coolingDown.get(task.key)?.failures ?? 0) + 1;
    const until = clock.now() + backoffMs(failures, random, limits);
    coolingDown.set(task.key, { name: task.name, since, failures, error: describeError(error), until });
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
    running: (key) => running.get(key)?.name,
    abort: (key, reason) => running.get(key)?.controller.abort(reason),
    status: () => statusOf(running, coolingDown),
    forget: (isDead) => {
      for (const key of [...coolingDown.keys()].filter(isDead)) coolingDown.delete(key);
    },
  };
}

function statusOf(
  running: ReadonlyMap<string, Running>,
  coolingDown: ReadonlyMap<string, CoolingDown>,
): TaskStatus[] {
  const failed = [...coolingDown].filter(([key, { failures }]) => failures > 0 && !running.has(key));
  return [
    ...[...running].map(([key, { name, since }]) => ({ key, name, since, cooldown: undefined })),
    ...failed.map(([key, { name, since, ...cooldown }]) => ({ key, name, since, cooldown })),
  ];
}
