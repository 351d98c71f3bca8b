import { nearest } from "./nearest.ts";
import type { PathProblem } from "./problems.ts";
import type { Settings } from "./schema.ts";

/** What the parts of a configuration, each acceptable by itself, ask of each other and do not have. */
export function disagreements(settings: Settings): PathProblem[] {
  return [...withoutWork(settings), ...poolsWithoutRunner(settings), ...unknownRulePools(settings)];
}

function withoutWork({ pools, webhook }: Settings): PathProblem[] {
  if (webhook !== undefined || Object.keys(pools).length > 0) return [];
  return [
    {
      path: ["pools"],
      message:
        "no job could ever be found: add “pools” (a kind of machine with the token of a GitLab runner) or “webhook” (jobs by tag, with an API token)",
    },
  ];
}

function poolsWithoutRunner({ pools, webhook }: Settings): PathProblem[] {
  if (webhook !== undefined) return [];
  return Object.entries(pools)
    .filter(([, pool]) => pool.runner === undefined)
    .map(([name]) => ({
      path: ["pools", name],
      message: `pools.${name}.runner is missing: give runner.tokenFile (only with “webhook” may a pool be without, for its rules)`,
    }));
}

function unknownRulePools({ pools, webhook }: Settings): PathProblem[] {
  const known = Object.keys(pools);
  return (webhook?.rules ?? []).flatMap(({ pool }, index) => {
    if (pool === undefined || Object.hasOwn(pools, pool)) return [];
    const close = nearest(pool, known);
    const names = known.length === 0 ? "there are none" : `known are ${known.join(", ")}`;
    const message = `webhook.rules.${index}.pool names no pool: ${close ? `did you mean “${close}”?` : names}`;
    return [{ path: ["webhook", "rules", index, "pool"], message }];
  });
}
