import type { Clock } from "../../base/clock.ts";

/** Waiting that spreads out what would otherwise fall on the same moment: between 80 % and 120 % of the time. */
export interface Pauses {
  spread(ms: number): number;
  pause(ms: number, signal: AbortSignal): Promise<void>;
}

export function createPauses(clock: Clock, random: () => number): Pauses {
  const spread = (ms: number) => ms * (0.8 + 0.4 * random());
  return { spread, pause: (ms, signal) => clock.sleep(spread(ms), signal) };
}
