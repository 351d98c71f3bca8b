/**
 * Caches on this computer's disks: what can be fetched or made again, and so gives way to what cannot. Who has room to give away counts what they
 * would give back as free, and has them give it back before anybody is refused or ended for want of it. The cache that was added first gives way
 * first.
 */
import { stat, statfs } from "node:fs/promises";
import { createMutex } from "./keyed-mutex.ts";

export interface DiskCache {
  /** For people: “images of jobs”. */
  readonly name: string;
  readonly directory: string;
  /** What it takes up, and what of that nobody uses now; zeros for one that is not there yet. */
  use(): Promise<{ readonly usedBytes: number; readonly evictableBytes: number }>;
  /** Removes what was not used for longest until so much is gone, or nothing is left that nobody uses. Answers how much went. */
  evict(bytes: number): Promise<number>;
}

interface CacheUse {
  readonly name: string;
  readonly directory: string;
  readonly usedBytes: number;
  readonly evictableBytes: number;
}

export interface DiskLedger {
  add(cache: DiskCache): void;
  uses(): Promise<readonly CacheUse[]>;
  /** What caches on the volume of this directory would give back (bytes). */
  evictableBytes(directory: string): Promise<number>;
  /** Has caches on the volume of this directory give way until so much is free there. Answers what is free then (bytes). */
  makeFree(directory: string, bytes: number): Promise<number>;
}

export function createDiskLedger(): DiskLedger {
  const caches: DiskCache[] = [];
  const oneAtATime = createMutex();

  /** A cache that cannot be read has nothing to give. */
  async function useOf({ name, directory, ...cache }: DiskCache): Promise<CacheUse> {
    const { usedBytes, evictableBytes } = await cache
      .use()
      .catch(() => ({ usedBytes: 0, evictableBytes: 0 }));
    return { name, directory, usedBytes, evictableBytes };
  }

  async function on(directory: string): Promise<DiskCache[]> {
    const volume = await volumeOf(directory);
    const same = await Promise.all(
      caches.map(async (cache) => volume !== undefined && (await volumeOf(cache.directory)) === volume),
    );
    return caches.filter((_, index) => same[index]);
  }

  async function giveWay(directory: string, bytes: number): Promise<number> {
    for (const cache of await on(directory)) {
      const missing = bytes - (await freeBytesOf(directory));
      if (missing <= 0) break;
      await cache.evict(missing).catch(() => 0);
    }
    return await freeBytesOf(directory);
  }

  return {
    add: (cache) => void caches.push(cache),
    uses: () => Promise.all(caches.map(useOf)),
    async evictableBytes(directory) {
      const uses = await Promise.all((await on(directory)).map(useOf));
      return uses.reduce((sum, { evictableBytes }) => sum + evictableBytes, 0);
    },
    async makeFree(directory, bytes) {
      const free = await freeBytesOf(directory);
      return free >= bytes ? free : await oneAtATime(() => giveWay(directory, bytes));
    },
  };
}

/** What this program's user may still write there. */
export async function freeBytesOf(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  return bavail * bsize;
}

async function volumeOf(directory: string): Promise<number | undefined> {
  return await stat(directory).then(
    ({ dev }) => dev,
    () => undefined,
  );
}
