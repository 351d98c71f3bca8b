import { expect, test } from "vitest";
import { aPool } from "../../test/builders/pool.ts";
import type { Pool } from "../domain/pool.ts";
import { createPoolSources, type PoolSource } from "./pool-sources.ts";

function source(names: readonly string[], more: Partial<PoolSource> = {}) {
  const rechecked: string[] = [];
  const pools = { now: poolsOf(names) };
  const made: PoolSource = {
    pools: () => pools.now,
    bases: () => new Map(names.map((name) => [name, aPool({ name })])),
    wanted: () => undefined,
    assign: (_jobId, pool) => pool,
    requestRecheck: (pool) => void rechecked.push(pool),
    ...more,
  };
  const change = (next: readonly string[]) => {
    pools.now = poolsOf(next);
  };
  return { ...made, rechecked, change };
}

function poolsOf(names: readonly string[]): ReadonlyMap<string, Pool> {
  return new Map(names.map((name) => [name, aPool({ name })]));
}

test("without a source there are no pools, and nothing is known to wait", () => {
  const sources = createPoolSources();

  expect([sources.pools().size, sources.bases().size, sources.wanted("a")]).toEqual([0, 0, undefined]);
  expect(sources.assign(1, aPool({ name: "a" })).name).toBe("a");
});

test("pools of all sources are there as soon as their source is, and the same map until one changes", () => {
  const sources = createPoolSources();
  const [configured, tagged] = [source(["a"]), source(["tags:x"])];
  sources.add(configured);
  const before = sources.pools();

  expect([...before.keys()]).toEqual(["a"]);
  expect(sources.pools()).toBe(before);
  sources.add(tagged);
  expect([...sources.pools().keys()]).toEqual(["a", "tags:x"]);
  expect([...sources.bases().keys()]).toEqual(["a", "tags:x"]);
  tagged.change(["tags:y"]);
  expect([...sources.pools().keys()]).toEqual(["a", "tags:y"]);
});

test("what one source knows of a pool counts, and all hear of a refusal", () => {
  const sources = createPoolSources();
  const other = aPool({ name: "other" });
  const [first, second] = [
    source(["a"]),
    source(["b"], { wanted: (pool) => (pool === "b" ? 0 : undefined), assign: () => other }),
  ];
  sources.add(first);
  sources.add(second);
  sources.requestRecheck("b");

  expect([sources.wanted("a"), sources.wanted("b")]).toEqual([undefined, 0]);
  expect(sources.assign(1, aPool({ name: "b" }))).toBe(other);
  expect([first.rechecked, second.rechecked]).toEqual([["b"], ["b"]]);
});
