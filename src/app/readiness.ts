import type { Readiness } from "../http/hook-desk.ts";
import type { PoolHealth } from "../scheduler/health.ts";

export interface ReadinessParts {
  /** `run`, or that FireRunner takes no new jobs. */
  readonly mode: string;
  readonly pools: readonly PoolHealth[];
  /** What keeps jobs by tag from being found or served, in words. */
  readonly problems: readonly string[];
}

/**
 * For `/readyz`: ready as soon as machines of one pool can be started and claimed for. What is wrong besides is told all the same:
 * one pool without its image is no reason to take the whole FireRunner out of service.
 */
export function readinessOf({ mode, pools, problems }: ReadinessParts): Readiness {
  const ofPools = pools.flatMap(({ pool, problems: found }) =>
    found.map(({ problem, hint }) => `pool ${pool}: ${problem}${hint ? ` (${hint})` : ""}`),
  );
  const isRunning = mode === "run";
  const ofMode = isRunning ? [] : ["FireRunner takes no new jobs now: it is draining or ending"];
  return {
    ready: isRunning && pools.some(({ ok }) => ok),
    problems: [...ofMode, ...ofPools, ...problems],
  };
}
