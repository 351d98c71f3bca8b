export interface BackoffLimits {
  readonly baseMs: number;
  readonly capMs: number;
}

/**
 * How long to wait after `failures` failures in a row (1 for the first): doubling from the base up to the cap, of which the
 * upper half is random, so that many waiters do not come back together. `random` gives [0, 1).
 */
export function backoffMs(failures: number, random: () => number, limits: BackoffLimits): number {
  const doublings = Math.min(Math.max(failures - 1, 0), 50);
  const fullMs = Math.min(limits.capMs, limits.baseMs * 2 ** doublings);
  return Math.round(fullMs / 2 + (random() * fullMs) / 2);
}
