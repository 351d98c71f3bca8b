import type { ManagedRunner } from "../store/managed-runner.ts";

/** How much earlier than configured at most. */
const SPREAD = 0.25;

/**
 * When GitLab has to hear of each runner again (epoch ms): drawn anew after each time, so that runners that were made together, or
 * heard of together after a restart, do not come together for ever.
 */
export interface VerifyTimes {
  dueAt(row: Pick<ManagedRunner, "key" | "verifiedAt">): number;
  /** Forgets runners that are no more. */
  keepOnly(keys: ReadonlySet<string>): void;
}

export function createVerifyTimes(options: {
  readonly intervalMs: () => number;
  readonly random: () => number;
}): VerifyTimes {
  /** The share of the interval that is let go by, for the time it was drawn for. */
  const drawn = new Map<string, { readonly verifiedAt: number; readonly share: number }>();

  return {
    dueAt({ key, verifiedAt }) {
      if (verifiedAt === null) return 0;
      const known = drawn.get(key);
      const share = known?.verifiedAt === verifiedAt ? known.share : 1 - SPREAD * options.random();
      drawn.set(key, { verifiedAt, share });
      return verifiedAt + share * options.intervalMs();
    },
    keepOnly(keys) {
      for (const key of drawn.keys()) if (!keys.has(key)) drawn.delete(key);
    },
  };
}
