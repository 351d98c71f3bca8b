import type { ClaimingStatus } from "../claiming/claimer.ts";
import type { PoolHealth } from "../scheduler/health.ts";
import type { Readiness } from "../server/public/webhook-route.ts";

export interface ReadinessParts {
  /** `run`, or that FireRunner takes no new jobs. */
  readonly mode: string;
  /** Of the configured pools, and of what jobs by tag boot. */
  readonly pools: readonly PoolHealth[];
  /** How the jobs of configured pools are asked for. A pool that is not in it is one of jobs by tag, or was not asked for yet. */
  readonly claiming?: readonly Pick<ClaimingStatus, "pool" | "reason" | "until" | "fatal">[];
  /** Whether jobs by tag can be found, as far as is known: false while GitLab or the API token refuses every look. */
  readonly canFindTagged?: boolean;
  /** GitLab does not answer, in words, whoever asks it: polls, reports of running jobs, reads of its API. */
  readonly outage?: string | undefined;
  /** What is wrong with jobs by tag, in words. */
  readonly problems: readonly string[];
}

/**
 * For `/readyz`. Ready: a job could be claimed and its machine started now, in one pool at least. What is wrong besides is told all
 * the same, and leaves it ready: one pool without its image is no reason to take the whole FireRunner out of service. A pool whose
 * asking fails counts for nothing until GitLab answers again; one that merely waits, for work or for room, is as good as another.
 */
export function readinessOf(parts: ReadinessParts): Readiness {
  const { mode, pools, claiming = [], outage, problems } = parts;
  const isRunning = mode === "run";
  const failing = claiming.filter(isFailing);
  return {
    ready: isRunning && outage === undefined && pools.some((pool) => pool.ok && canClaim(pool.pool, parts)),
    problems: [
      ...(isRunning ? [] : ["FireRunner takes no new jobs now: it is draining or ending"]),
      ...(outage === undefined ? [] : [outage]),
      ...(pools.length === 0 ? ["there is no pool, and no job by tag is served"] : []),
      ...pools.flatMap(problemsOf),
      ...failing.map(({ pool, reason }) => `pool ${pool}: its jobs cannot be asked for: ${reason}`),
      ...problems,
    ],
  };
}

function canClaim(name: string, { claiming = [], canFindTagged = true }: ReadinessParts): boolean {
  const asked = claiming.filter(({ pool }) => pool === name);
  return asked.length === 0 ? canFindTagged : !asked.every(isFailing);
}

/** GitLab's last answer was none, or a refusal. */
function isFailing({ fatal, until }: Pick<ClaimingStatus, "fatal" | "until">): boolean {
  return fatal || until !== undefined;
}

function problemsOf({ pool, problems }: PoolHealth): string[] {
  return problems.map(({ problem, hint }) => `pool ${pool}: ${problem}${hint ? ` (${hint})` : ""}`);
}
