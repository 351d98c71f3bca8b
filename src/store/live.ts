/**
 * What lives, in memory: unfinished jobs, machines that are not gone, hosts that are drained. They are asked for many times a second, as
 * lists and one by one, and there may be thousands. They are read once; from then on each change tells which rows it has written, and those
 * take their place as soon as it is committed: nobody else writes the database. Where a change's outcome is not known, they are read anew.
 */
import { occupyingMachineStates, unfinishedJobStates } from "../domain/states.ts";
import type { Job, JobFilter, Machine, Store } from "./store.ts";

interface DrainedHost {
  readonly key: string;
  readonly isDrained: boolean;
}

/** What a change may write of these, each row whole and as it is now. */
export type Written = { readonly job: Job } | { readonly machine: Machine } | { readonly host: DrainedHost };

/** Told of every change. */
export interface ChangeWatch {
  /** From here on nobody knows whether the database has it. */
  begun(): void;
  /** It is committed with these rows, or rolled back with none; undefined when that is not known. */
  ended(written: readonly Written[] | undefined): void;
}

type Reads = Pick<Store, "job" | "jobs" | "machine" | "machines" | "drainedHosts">;

export interface Live extends ChangeWatch {
  /** As those given, but answered from memory where that has it. */
  readonly reads: Reads;
}

export function createLive(database: Reads): Live {
  /** The change under way. What is asked for meanwhile waits for it, and so is never older than what was seen before. */
  let change: PromiseWithResolvers<void> | undefined;
  let changes = 0;

  /** Kept unless something was written meanwhile: then nobody knows before or after what it was read. */
  async function readAlone<Row>(read: () => Promise<Row[]>): Promise<{ rows: Row[]; isAlone: boolean }> {
    const before = changes;
    const rows = await read();
    return { rows, isAlone: change === undefined && changes === before };
  }
  const settled = async () => await change?.promise;

  const jobs = keep<number, Job>({
    ...{ readAlone, settled },
    read: () => database.jobs({ unfinished: true }),
    keyOf: ({ id }) => id,
    isLive: ({ state }) => unfinishedJobStates.includes(state),
    order: (a, b) => b.claimedAt - a.claimedAt || b.id - a.id,
  });
  const machines = keep<string, Machine>({
    ...{ readAlone, settled },
    read: () => database.machines({ live: true }),
    keyOf: ({ id }) => id,
    isLive: ({ state }) => occupyingMachineStates.includes(state),
    order: (a, b) => b.createdAt - a.createdAt || compare(b.id, a.id),
  });
  const hosts = keep<string, DrainedHost>({
    ...{ readAlone, settled },
    read: async () => (await database.drainedHosts()).map((key) => ({ key, isDrained: true })),
    keyOf: ({ key }) => key,
    isLive: ({ isDrained }) => isDrained,
    order: (a, b) => compare(a.key, b.key),
  });

  function take(row: Written): void {
    if ("job" in row) jobs.take(row.job);
    else if ("machine" in row) machines.take(row.machine);
    else hosts.take(row.host);
  }

  return {
    begun() {
      change = Promise.withResolvers();
      changes++;
    },
    ended(written) {
      if (written) written.forEach(take);
      else for (const kept of [jobs, machines, hosts]) kept.forget();
      changes++;
      change?.resolve();
      change = undefined;
    },
    reads: {
      job: async (id) => (await jobs.one(id)) ?? (await database.job(id)),
      jobs: async (filter = {}) => (isOfAllLive(filter) ? await jobs.all() : await database.jobs(filter)),
      machine: async (id) => (await machines.one(id)) ?? (await database.machine(id)),
      machines: async (filter = {}) => (filter.live ? await machines.all() : await database.machines(filter)),
      drainedHosts: async () => (await hosts.all()).map(({ key }) => key),
    },
  };
}

/** What people ask for besides is rare enough for the database. */
function isOfAllLive({ unfinished, ...others }: JobFilter): boolean {
  return unfinished === true && Object.values(others).every((each) => each === undefined);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

interface KeepOptions<Key, Row> {
  readonly read: () => Promise<Row[]>;
  readonly readAlone: (read: () => Promise<Row[]>) => Promise<{ rows: Row[]; isAlone: boolean }>;
  readonly settled: () => Promise<void>;
  readonly keyOf: (row: Row) => Key;
  readonly isLive: (row: Row) => boolean;
  readonly order: (a: Row, b: Row) => number;
}

interface Kept<Key, Row> {
  /** A list of the caller's own, in order. */
  all(): Promise<Row[]>;
  /** Undefined also while nothing is kept. */
  one(key: Key): Promise<Row | undefined>;
  take(row: Row): void;
  forget(): void;
}

function keep<Key, Row>(options: KeepOptions<Key, Row>): Kept<Key, Row> {
  const { read, readAlone, settled, keyOf, isLive, order } = options;
  /** In order. What the order goes by never changes in a row's life. */
  let kept: Row[] | undefined;
  const byKey = new Map<Key, Row>();

  /** Where the row is, or would be. */
  function placeOf(rows: readonly Row[], row: Row): number {
    let [low, high] = [0, rows.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (order(rows[middle] as Row, row) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  return {
    async all() {
      await settled();
      if (kept) return [...kept];
      const { rows, isAlone } = await readAlone(read);
      if (isAlone) {
        // Not every database compares texts as we do.
        kept = rows.toSorted(order);
        for (const row of rows) byKey.set(keyOf(row), row);
      }
      return rows;
    },
    async one(key) {
      await settled();
      return byKey.get(key);
    },
    take(row) {
      if (!kept) return;
      const key = keyOf(row);
      const isThere = byKey.delete(key);
      if (isLive(row)) byKey.set(key, row);
      kept.splice(placeOf(kept, row), isThere ? 1 : 0, ...(isLive(row) ? [row] : []));
    },
    forget() {
      kept = undefined;
      byKey.clear();
    },
  };
}
