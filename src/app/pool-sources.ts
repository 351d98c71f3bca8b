/**
 * Where pools come from: the configuration, and jobs by tag. Jobs of both are claimed and run in the same way, so whoever needs a pool,
 * or has something to say of one, comes here and need not know which it is. The parts of the program need pools before the source of
 * jobs by tag can be built, which needs those parts: it is added when it is there, and until then the answers are those of the others.
 */
import type { Pool } from "../domain/pool.ts";
import type { MachineBase } from "../scheduler/host-probes.ts";

type Pools = ReadonlyMap<string, Pool>;

/** Everything here is answered from memory. */
export interface PoolSource {
  /** The same map for as long as nothing has changed. */
  pools(): Pools;
  /** What machines of pools boot that come and go with their jobs, by a name for people: looked at even while there are none. */
  bases(): ReadonlyMap<string, MachineBase>;
  /** How many jobs are known to wait for a pool; undefined where only GitLab knows, and for pools of others. */
  wanted(pool: string): number | undefined;
  /** The pool in whose machine a claimed job belongs; the one that was asked for where nothing speaks for another. */
  assign(jobId: number, pool: Pool): Pool;
  /** GitLab refuses a pool's requests. Pools of others are no matter of this source. */
  requestRecheck(pool: string): void;
}

/** Pools of the configuration: their machines wait for jobs that only GitLab knows of. */
export function configuredPools(config: () => { readonly pools: Pools }): PoolSource {
  return {
    pools: () => config().pools,
    bases: () => new Map(),
    wanted: () => undefined,
    assign: (_jobId, pool) => pool,
    requestRecheck: () => {},
  };
}

/** All sources as one. */
export interface PoolSources extends PoolSource {
  add(source: PoolSource): void;
}

export function createPoolSources(): PoolSources {
  const sources: PoolSource[] = [];
  let parts: readonly Pools[] = [];
  let joined: Pools = new Map();
  return {
    add: (source) => void sources.push(source),
    // Every poll and every request of a guest asks: they are put together again only when one of them has changed.
    pools() {
      const now = sources.map((source) => source.pools());
      if (now.length === parts.length && now.every((each, index) => each === parts[index])) return joined;
      parts = now;
      joined = new Map(now.flatMap((each) => [...each]));
      return joined;
    },
    bases: () => new Map(sources.flatMap((source) => [...source.bases()])),
    wanted: (pool) => sources.map((source) => source.wanted(pool)).find((count) => count !== undefined),
    assign: (jobId, pool) => sources.reduce((assigned, source) => source.assign(jobId, assigned), pool),
    requestRecheck(pool) {
      for (const source of sources) source.requestRecheck(pool);
    },
  };
}
