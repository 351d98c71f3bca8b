import { Secret } from "../base/secret.ts";
import type { Pool } from "../domain/pool.ts";
import { routeJob, type TagRules } from "../domain/routing.ts";
import type { ManagedRunner } from "../store/managed-runner.ts";

/** For a runner whose token cannot be read any more: nothing is asked for with it, but its jobs go on. */
const noToken = new Secret("");

/**
 * The pool of a runner: what its tags mean at present. Where they mean nothing any more, its jobs still get the size it was made
 * for, in the kind of machine that needs no rule.
 */
export function poolOf(
  { pool, tags, size }: ManagedRunner,
  rules: TagRules,
  runnerToken: Secret = noToken,
): Pool {
  const routing = routeJob(tags, rules);
  const found = routing.kind === "route" ? routing.route : { kind: rules.kind, size };
  const { diskMib: _, ...kind } = found.kind;
  return { ...kind, name: pool, size: found.size, runnerToken };
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
