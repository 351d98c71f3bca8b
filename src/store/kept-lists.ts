import type { Store } from "./store.ts";

type Lists = Pick<Store, "jobs" | "machines" | "drainedHosts">;

/**
 * Keeps what is unfinished, what lives, and which hosts are drained until something is written: they are asked for several times a
 * second, also when nothing happens, and there may be thousands. `revision` changes when a change begins and when it has ended.
 */
export function keepLists({ jobs, machines, drainedHosts }: Lists, revision: () => number): Lists {
  const unfinished = keep(() => jobs({ unfinished: true }), revision);
  const live = keep(() => machines({ live: true }), revision);
  return {
    jobs: async (filter = {}) => (filter.unfinished ? await unfinished() : await jobs(filter)),
    machines: async (filter = {}) => (filter.live ? await live() : await machines(filter)),
    drainedHosts: keep(drainedHosts, revision),
  };
}

function keep<Row>(read: () => Promise<Row[]>, revision: () => number): () => Promise<Row[]> {
  let kept: { readonly rows: readonly Row[]; readonly revision: number } | undefined;
  return async () => {
    const before = revision();
    if (kept?.revision === before) return [...kept.rows];
    const rows = await read();
    // Read while something was written: nobody knows before or after what.
    if (revision() !== before) return rows;
    kept = { rows, revision: before };
    return [...rows];
  };
}
