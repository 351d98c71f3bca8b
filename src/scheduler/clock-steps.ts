/**
 * Notices that somebody has set the clock, or that this program was stopped for a while (a suspended computer): what was counted until then
 * says nothing of machines, which must not be called late for it. Timers do not follow a clock that is set, so that the time between two
 * looks is known but for what work takes.
 */
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";

/** Forward, beyond the expected: so much a busy computer may take. Every limit that counts is longer. */
const FORWARD_MS = 20_000;
const BACKWARD_MS = 2_000;

export interface ClockSteps {
  /** Called when at most `expectedMs` have gone by since the last look. */
  look(expectedMs: number): void;
  /** When the clock was last found to have been set (epoch ms, as it is now); undefined: never. */
  known(): { readonly steppedAt: number | undefined };
}

interface ClockStepsDeps {
  readonly clock: Pick<Clock, "now">;
  readonly log: Pick<Log, "warn">;
}

export function createClockSteps({ clock, log }: ClockStepsDeps): ClockSteps {
  let lookedAt = clock.now();
  let steppedAt: number | undefined;

  return {
    known: () => ({ steppedAt }),
    look(expectedMs) {
      const at = clock.now();
      const goneMs = at - lookedAt;
      lookedAt = at;
      if (goneMs >= -BACKWARD_MS && goneMs <= expectedMs + FORWARD_MS) return;
      steppedAt = at;
      log.warn({ stepMs: goneMs }, "the clock was set, or this program stood still: limits count anew");
    },
  };
}
