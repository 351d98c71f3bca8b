import type { Clock } from "../base/clock.ts";
import { formatDuration } from "../base/units.ts";
import { SchedulerError } from "./errors.ts";

/** How long work may go on after its signal aborted, to clean up behind itself, before it is left alone. */
const CLEAN_UP_MS = 5_000;
/** A reason of our own spares the making of an exception for every call. */
const ENDED = "ended";

/**
 * Runs `work` with a signal that aborts when `parent` does or after `limitMs`. Work that goes on regardless is left to itself
 * after some seconds: the caller is never held up by a call that hangs.
 */
export async function withDeadline<Value>(
  clock: Clock,
  limitMs: number,
  parent: AbortSignal,
  doing: string,
  work: (signal: AbortSignal) => Promise<Value>,
): Promise<Value> {
  const ours = new AbortController();
  const over = new AbortController();
  const follow = () => ours.abort(parent.reason);
  parent.throwIfAborted();
  parent.addEventListener("abort", follow);
  const giveUp = () => {
    const words = `${doing} took longer than ${formatDuration(limitMs)}`;
    ours.abort(new SchedulerError("scheduler_deadline", words));
  };
  ignore(clock.sleep(limitMs, over.signal).then(giveUp));
  try {
    return await Promise.race([work(ours.signal), abandoned(clock, ours.signal, over.signal)]);
  } finally {
    parent.removeEventListener("abort", follow);
    over.abort(ENDED);
  }
}

/** Rejects some time after `signal` aborted, unless `over` says that nobody waits any more. */
async function abandoned(clock: Clock, signal: AbortSignal, over: AbortSignal): Promise<never> {
  if (!signal.aborted)
    await new Promise<void>((resolve) => {
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
  try {
    await clock.sleep(CLEAN_UP_MS, over);
  } catch {
    return await new Promise<never>(() => {});
  }
  throw signal.reason;
}

/** For a promise whose rejection only says that it was called off. */
function ignore(promise: Promise<unknown>): void {
  promise.catch(() => {});
}

/** Waits for work, but not for ever: it goes on by itself after `limitMs`. */
export async function atMost(clock: Clock, limitMs: number, work: Promise<unknown>): Promise<void> {
  const timer = new AbortController();
  const over = clock.sleep(limitMs, timer.signal).catch(() => {});
  try {
    await Promise.race([work, over]);
  } finally {
    timer.abort(ENDED);
  }
}
