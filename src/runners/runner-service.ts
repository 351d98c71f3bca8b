import type { Pool } from "../domain/pool.ts";
import type { ManagedRunner } from "../store/managed-runner.ts";
import { type Need, tagsKey } from "./runner-needs.ts";

/**
 * How many of the waiting jobs may be claimed through each pool of these runners. Jobs with exactly the runner's tags, and those
 * with fewer that have no runner of their own yet, as long as their machine would be the same. GitLab itself gives a runner any job
 * whose tags it has; who asks for it is ours to choose.
 */
export function servedBy(
  runners: readonly ManagedRunner[],
  needs: ReadonlyMap<string, Need>,
  pools: ReadonlyMap<string, Pool>,
): ReadonlyMap<string, number> {
  const withOwn = new Set(runners.map(({ tags }) => tagsKey(tags)));
  const orphaned = [...needs.values()].filter(({ key }) => !withOwn.has(key));
  return new Map(
    runners.map((runner) => {
      const own = needs.get(tagsKey(runner.tags))?.jobIds.length ?? 0;
      const pool = pools.get(runner.pool);
      const others = orphaned.filter((need) => pool && hasTagsOf(runner, need) && isSameMachine(pool, need));
      const all = others.reduce((sum, { jobIds }) => sum + jobIds.length, own);
      return [runner.pool, runner.jobId === null ? all : Math.min(own, 1)];
    }),
  );
}

function hasTagsOf({ tags }: ManagedRunner, { route }: Need): boolean {
  return route.tags.every((tag) => tags.includes(tag));
}

function isSameMachine(pool: Pool, { route: { kind, size } }: Need): boolean {
  const { image, driver, egress } = pool;
  const asked = [kind.image, kind.driver, kind.egress, size];
  return JSON.stringify([image, driver, egress, pool.size]) === JSON.stringify(asked);
}
