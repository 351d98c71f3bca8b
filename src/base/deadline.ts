/**
 * Time limits, all by the clock that is given: work that is told when its time is over (`withDeadline`, `startDeadline`), and waiting that
 * ends while the work goes on (`atMost`, `untilAborted`). Whoever waits is never held up by a call that hangs.
 */
import type { Clock } from "./clock.ts";

/** How long work may go on after its signal aborted, to clean up behind itself, before it is left alone. */
const CLEAN_UP_MS = 5_000;
/** The reason where no other is given. Reasons of our own spare the making of an exception for every call. */
export const outOfTime = Object.assign(new Error("it took too long"), { name: "TimeoutError" });
const ENDED = "ended";

export interface Deadline {
  /** Aborts with the parent, or when the time is over. */
  readonly signal: AbortSignal;
  isOver(): boolean;
  /** To be called at the end of the work, in time or not: the timer keeps the program running. */
  clear(): void;
}

/** `late` makes the reason with which the signal aborts when the time is over. */
export function startDeadline(
  clock: Clock,
  limitMs: number,
  parent?: AbortSignal,
  late: () => Error = () => outOfTime,
): Deadline {
  const ours = new AbortController();
  const timer = new AbortController();
  let over = false;
  const follow = () => ours.abort(parent?.reason);
  if (parent?.aborted) follow();
  parent?.addEventListener("abort", follow);
  clock.sleep(limitMs, timer.signal).then(
    () => {
      over = true;
      ours.abort(late());
    },
    () => {},
  );
  return {
    signal: ours.signal,
    isOver: () => over,
    clear() {
      parent?.removeEventListener("abort", follow);
      timer.abort(ENDED);
    },
  };
}

export interface Limit {
  readonly limitMs: number;
  readonly parent?: AbortSignal | undefined;
  /** The error with which the signal aborts when the time is over; without it `outOfTime`. */
  readonly late?: () => Error;
  /** How long the work is still waited for after its signal aborted. Default 5 s. */
  readonly cleanUpMs?: number;
}

/**
 * Runs `work` with a signal that aborts when `parent` does or after `limitMs`. Work that goes on regardless is left to itself some
 * seconds later, and this rejects with the signal's reason.
 */
export async function withDeadline<Value>(
  clock: Clock,
  { limitMs, parent, late, cleanUpMs = CLEAN_UP_MS }: Limit,
  work: (signal: AbortSignal) => Promise<Value>,
): Promise<Value> {
  parent?.throwIfAborted();
  const deadline = startDeadline(clock, limitMs, parent, late);
  const over = new AbortController();
  try {
    const leftAlone = abandoned(clock, cleanUpMs, deadline.signal, over.signal);
    return await Promise.race([work(deadline.signal), leftAlone]);
  } finally {
    deadline.clear();
    over.abort(ENDED);
  }
}

/** Rejects some time after `signal` aborted, unless `over` says that nobody waits any more. */
async function abandoned(
  clock: Clock,
  afterMs: number,
  signal: AbortSignal,
  over: AbortSignal,
): Promise<never> {
  if (!signal.aborted)
    await new Promise<void>((resolve) => {
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
  try {
    if (afterMs > 0) await clock.sleep(afterMs, over);
  } catch {
    return await new Promise<never>(() => {});
  }
  throw signal.reason;
}

/** Waits for work, but not for ever: it goes on by itself after `limitMs`, or when `signal` aborts. Rejects as the work does. */
export async function atMost(
  clock: Clock,
  limitMs: number,
  work: Promise<unknown>,
  signal?: AbortSignal,
): Promise<void> {
  const patience = startDeadline(clock, limitMs, signal);
  const over = new Promise<void>((resolve) => {
    if (patience.signal.aborted) resolve();
    patience.signal.addEventListener("abort", () => resolve(), { once: true });
  });
  try {
    await Promise.race([work, over]);
  } finally {
    patience.clear();
  }
}

/** Waits for `work`, but no longer than until `signal` aborts: then it rejects with the reason, and the work goes on. */
export function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    const done = () => signal.removeEventListener("abort", stop);
    work.then(resolve, reject).then(done, done);
  });
}
