import type { Clock } from "../../../src/base/clock.ts";

const MINUTE_MS = 60_000;

/** What one user has asked of the REST API in the current minute. */
interface Budget {
  used: number;
  /** Epoch ms. */
  readonly resetsAt: number;
  firstRefusedAt: number | undefined;
}

export interface Budgets {
  of(userId: number): Budget;
  /** Counts one request. */
  take(userId: number): Budget;
}

export function createBudgets(clock: Clock): Budgets {
  const all = new Map<number, Budget>();

  function of(userId: number): Budget {
    const known = all.get(userId);
    if (known && known.resetsAt > clock.now()) return known;
    const resetsAt = (Math.floor(clock.now() / MINUTE_MS) + 1) * MINUTE_MS;
    const budget = { used: 0, resetsAt, firstRefusedAt: undefined };
    all.set(userId, budget);
    return budget;
  }

  return {
    of,
    take(userId) {
      const budget = of(userId);
      budget.used++;
      return budget;
    },
  };
}
