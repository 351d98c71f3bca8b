import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";

const WINDOW_MS = 60_000;
/** Lines in a minute, however many clients there are. */
const MOST_LINES = 30;

/** Warnings that strangers can cause: the first of each kind and minute is written, the others are counted. */
export interface SampledLog {
  /** `key` says which lines are of one kind, such as the client's address and the message. */
  warn(key: string, fields: object, message: string): void;
  /** Writes how many lines were left out, when the minute has passed. To be called now and then. */
  tick(): void;
  /** The same, at once. */
  flush(): void;
}

export function createSampledLog(log: Log, clock: Pick<Clock, "now">): SampledLog {
  let seen = new Set<string>();
  let leftOut = 0;
  let startedAt = clock.now();

  function flush(): void {
    if (leftOut > 0) log.warn({ count: leftOut }, "more warnings of clients at the door were left out");
    seen = new Set();
    leftOut = 0;
    startedAt = clock.now();
  }

  function tick(): void {
    if (Math.abs(clock.now() - startedAt) >= WINDOW_MS) flush();
  }

  return {
    warn(key, fields, message) {
      tick();
      if (seen.has(key) || seen.size >= MOST_LINES) leftOut++;
      else {
        seen.add(key);
        log.warn(fields, message);
      }
    },
    tick,
    flush,
  };
}
