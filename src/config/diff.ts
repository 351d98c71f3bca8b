import type { Config } from "./load.ts";
import type { ConfigValue } from "./values.ts";

/** What changed between two configurations, in words. */
export interface ConfigDiff {
  /** Changes that a running FireRunner takes over at once. */
  readonly live: readonly string[];
  /** Changes that wait for the next start. */
  readonly restart: readonly string[];
}

/** Machines and claims read their pool anew each time; everything else is given to its room once, at start. */
const liveRoots: ReadonlySet<string> = new Set(["pools", "log"]);
const restartPaths: ReadonlySet<string> = new Set(["log.format"]);

export function diffConfig(old: Config, next: Config): ConfigDiff {
  const live = poolChanges(old, next);
  const restart: string[] = [];
  const before = new Map(old.values.map((each) => [each.path.join("."), each]));
  const after = new Map(next.values.map((each) => [each.path.join("."), each]));
  for (const name of new Set([...before.keys(), ...after.keys()])) {
    const change = changeOf(name, before.get(name), after.get(name), old, next);
    if (change === undefined) continue;
    if (isLive(name)) live.push(change);
    else restart.push(`${change} (after a restart)`);
  }
  return { live, restart };
}

function poolChanges(old: Config, next: Config): string[] {
  const added = [...next.pools.keys()]
    .filter((name) => !old.pools.has(name))
    .map((name) => `pool ${name} added`);
  const removed = [...old.pools.keys()]
    .filter((name) => !next.pools.has(name))
    .map((name) => `pool ${name} removed: its jobs end as usual, no new ones are claimed`);
  const tokens = [...next.pools.values()]
    .filter((pool) => {
      const before = old.pools.get(pool.name)?.runnerToken.reveal();
      return before !== undefined && before !== pool.runnerToken.reveal();
    })
    .map((pool) => `pool ${pool.name}: new runner token`);
  return [...added, ...removed, ...tokens];
}

function changeOf(
  name: string,
  before: ConfigValue | undefined,
  after: ConfigValue | undefined,
  old: Config,
  next: Config,
): string | undefined {
  const pool = (before ?? after)?.path[0] === "pools" ? (before ?? after)?.path[1] : undefined;
  if (pool !== undefined && !(old.pools.has(pool) && next.pools.has(pool))) return undefined;
  const [from, to] = [show(before), show(after)];
  return from === to ? undefined : `${name}: ${from} → ${to}`;
}

function isLive(name: string): boolean {
  return liveRoots.has(name.split(".")[0] ?? "") && !restartPaths.has(name);
}

function show(entry: ConfigValue | undefined): string {
  if (entry === undefined) return "not set";
  return typeof entry.value === "string" ? entry.value : JSON.stringify(entry.value);
}
