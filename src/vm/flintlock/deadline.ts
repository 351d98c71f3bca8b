import type { Clock } from "../../base/clock.ts";

export interface Deadline {
  /** Aborts with the parent, or when the time is over. */
  readonly signal: AbortSignal;
  isOver(): boolean;
  /** To be called at the end of the work, in time or not. */
  clear(): void;
}

/** Reasons of our own spare the making of an exception for every call. */
export const outOfTime = new Error("out of time");
const cleared = "cleared";

export function startDeadline(clock: Clock, limitMs: number, parent: AbortSignal): Deadline {
  const ours = new AbortController();
  const timer = new AbortController();
  let over = false;
  const follow = () => ours.abort(parent.reason);
  const end = () => {
    over = true;
    ours.abort(outOfTime);
  };
  if (parent.aborted) follow();
  parent.addEventListener("abort", follow);
  clock.sleep(limitMs, timer.signal).then(end, () => {});
  return {
    signal: ours.signal,
    isOver: () => over,
    clear() {
      parent.removeEventListener("abort", follow);
      timer.abort(cleared);
    },
  };
}

/** Waits for `work`, but no longer than until `signal` aborts. The work itself goes on. */
export function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    const done = () => signal.removeEventListener("abort", stop);
    work.then(resolve, reject).then(done, done);
  });
}
