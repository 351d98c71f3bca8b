import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";

/** A warning that may come a thousand times a second and is written once in a while, with how often it came in between. */
export function createSampledWarning(
  clock: Pick<Clock, "now">,
  log: Log,
  message: string,
  everyMs: number,
): (fields: object) => void {
  let nextAt = Number.NEGATIVE_INFINITY;
  let unwritten = 0;
  return (fields) => {
    if (clock.now() < nextAt) {
      unwritten++;
      return;
    }
    log.warn(unwritten > 0 ? { ...fields, alsoSince: unwritten } : fields, message);
    nextAt = clock.now() + everyMs;
    unwritten = 0;
  };
}
