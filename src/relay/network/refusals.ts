import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { MINUTE_MS } from "../../base/units.ts";

/** Why a connection was not let in. */
type StrangerKind = "too slow" | "no guest" | "unknown machine" | "wrong secret" | "displaced";

/** Counts what strangers do. Whoever reaches the port can cause it, so it is told in one line a minute at most. */
export interface Refusals {
  count(kind: StrangerKind): void;
  /** Tells what has not been told yet, when it is time. To be called now and then. */
  tick(): void;
}

export function createRefusals(log: Log, clock: Clock): Refusals {
  const counts = new Map<StrangerKind, number>();
  let toldAt = Number.NEGATIVE_INFINITY;

  function tick(): void {
    // A clock that was set back must not silence it.
    if (counts.size === 0 || Math.abs(clock.now() - toldAt) < MINUTE_MS) return;
    toldAt = clock.now();
    log.warn({ connections: Object.fromEntries(counts) }, "connections to the relay were refused");
    counts.clear();
  }

  return {
    count(kind) {
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
      tick();
    },
    tick,
  };
}
