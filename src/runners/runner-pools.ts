/** Sets of tags: the runner that one needs, the pool that a runner stands for, and who serves whom. Pure. */
import { Secret } from "../base/secret.ts";
import type { PendingJob } from "../discovery/pending-job.ts";
import type { Pool } from "../domain/pool.ts";
import { type Route, routeJob, type TagRules } from "../domain/routing.ts";
import type { ManagedRunner } from "../store/jobs-by-tag.ts";

/** For a runner whose token cannot be read any more: nothing is asked for with it, but its jobs go on. */
const noToken = new Secret("");

/**
 * The pool of a runner: what its tags mean at present. Where they mean nothing any more, its jobs still get the size it was made
 * for, in the kind of machine that needs no rule.
 */
export function poolOf(
  { key, pool, tags, size }: ManagedRunner,
  rules: TagRules,
  runnerToken: Secret = noToken,
): Pool {
  const routing = routeJob(tags, rules);
  const found = routing.kind === "route" ? routing.route : { kind: rules.kind, size };
  const { diskMib: _, ...kind } = found.kind;
  return { ...kind, name: pool, origin: { kind: "tags", key }, size: found.size, runnerToken };
}

/** What of pools decides who else has to hear of a change. */
export function fingerprint(pools: ReadonlyMap<string, Pool>): string {
  const plain = [...pools.values()].map((pool) => ({ ...pool, runnerToken: pool.runnerToken.reveal() }));
  return JSON.stringify(plain);
}

/** True when a machine of one is as good as one of the other: same slot, whatever its image. */
export function takesSameSlot(a: Pool, b: Pool): boolean {
  const [one, other] = [a.size, b.size];
  return (
    a.driver === b.driver &&
    one.cpus === other.cpus &&
    one.memoryMib === other.memoryMib &&
    one.diskMib === other.diskMib
  );
}

/** The jobs that wait with exactly the same tags, and so need the same runner. */
export interface Need {
  /** Of `tagsKey`. */
  readonly key: string;
  readonly route: Route;
  /** Oldest first. */
  readonly jobIds: readonly number[];
}

/** What tells one set of tags from another. */
export function tagsKey(tags: readonly string[]): string {
  return JSON.stringify([...new Set(tags)].toSorted());
}

/** By `tagsKey`, the one with the oldest job first. `pending` is oldest first. */
export function needsOf(pending: readonly PendingJob[]): ReadonlyMap<string, Need> {
  const needs = new Map<string, Need & { jobIds: number[] }>();
  for (const { id, route } of pending) {
    const key = tagsKey(route.tags);
    const need = needs.get(key);
    if (need) need.jobIds.push(id);
    else needs.set(key, { key, route, jobIds: [id] });
  }
  return needs;
}

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
  const { image, driver, egress, containers, runnerSettings } = pool;
  const asked = [kind.image, kind.driver, kind.egress, kind.containers, kind.runnerSettings, size];
  return (
    JSON.stringify([image, driver, egress, containers, runnerSettings, pool.size]) === JSON.stringify(asked)
  );
}
