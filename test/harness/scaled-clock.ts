import { type Clock, systemClock } from "../../src/base/clock.ts";

/** A clock that runs so many times faster than the real one, for code that waits for seconds and hosts that answer in milliseconds. */
export function createScaledClock(factor: number): Clock {
  const startAt = Date.now();
  return {
    now: () => startAt + (Date.now() - startAt) * factor,
    sleep: (ms, signal) => systemClock.sleep(ms / factor, signal),
  };
}
