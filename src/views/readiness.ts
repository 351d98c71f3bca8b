/**
 * What `/readyz` says. Asked every second or so by whoever watches, so nothing is worked out for it but what it needs: neither the state of
 * hosts nor what keeps each job.
 */
import type { ClaimingState, DaemonReads, PoolState } from "./ports.ts";

/** Whether a job could be claimed and its machine started now. */
export interface Readiness {
  readonly ready: boolean;
  /** What is missing, in words. */
  readonly problems: readonly string[];
}

export interface ReadinessFacts {
  /** `run`, or that FireRunner takes no new jobs. */
  readonly mode: string;
  /** Of the configured pools, and of what jobs by tag boot. */
  readonly pools: readonly Pick<PoolState, "pool" | "ok" | "problems">[];
  /** How the jobs of configured pools are asked for. A pool that is not in it is one of jobs by tag, or was not asked for yet. */
  readonly claiming?: readonly Pick<ClaimingState, "pool" | "reason" | "until" | "fatal">[];
  /** Whether jobs by tag can be found, as far as is known: false while GitLab or the API token refuses every look. */
  readonly canFindTagged?: boolean;
  /** GitLab does not answer, in words, whoever asks it: polls, reports of running jobs, reads of its API. */
  readonly outage?: string | undefined;
  /** What is wrong with jobs by tag, in words. */
  readonly problems: readonly string[];
}

export function readReadiness({
  scheduler,
  claimer,
  pools,
  outage,
  tagged,
}: Pick<DaemonReads, "scheduler" | "claimer" | "pools" | "outage" | "tagged">): Readiness {
  // Pools of jobs by tag come and go with their runners; whether they can be served is a matter of what they boot.
  const known = pools();
  const isLasting = ({ pool }: { readonly pool: string }) => known.get(pool)?.origin.kind !== "tags";
  return readinessOf({
    mode: scheduler.mode(),
    pools: scheduler.poolHealth().filter(isLasting),
    claiming: claimer.status().filter(isLasting),
    outage: outage(),
    canFindTagged: tagged?.canFind() ?? true,
    problems: tagged?.problems() ?? [],
  });
}

/**
 * Ready: a job could be claimed and its machine started now, in one pool at least. What is wrong besides is told all the same, and leaves
 * it ready: one pool without its image is no reason to take the whole FireRunner out of service. A pool whose asking fails counts for
 * nothing until GitLab answers again; one that merely waits, for work or for capacity, is as good as another.
 */
export function readinessOf(facts: ReadinessFacts): Readiness {
  const { mode, pools, claiming = [], outage, canFindTagged, problems } = facts;
  const isRunning = mode === "run";
  const failing = claiming.filter(isAskingInVain);
  return {
    ready:
      isRunning &&
      outage === undefined &&
      pools.some(({ pool, ok }) => ok && canBeAsked(pool, claiming, canFindTagged)),
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

/** Whether GitLab can be asked for a pool's jobs: `unasked` where nobody asks for them. */
export function canBeAsked(
  name: string,
  claiming: readonly Pick<ClaimingState, "pool" | "until" | "fatal">[],
  unasked = true,
): boolean {
  const asked = claiming.filter(({ pool }) => pool === name);
  return asked.length === 0 ? unasked : !asked.every(isAskingInVain);
}

/** GitLab's last answer was none, or a refusal. */
export function isAskingInVain({ fatal, until }: Pick<ClaimingState, "fatal" | "until">): boolean {
  return fatal || until !== undefined;
}

function problemsOf({ pool, problems }: Pick<PoolState, "pool" | "problems">): string[] {
  return problems.map(({ problem, hint }) => `pool ${pool}: ${problem}${hint ? ` (${hint})` : ""}`);
}
