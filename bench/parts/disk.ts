import { mkdir, mkdtemp, rm, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BenchContext } from "../core/figure.ts";

/** `f_type` of tmpfs and ramfs: a flush costs nothing there. */
const inMemory: readonly number[] = [0x0102_1994, 0x8584_58f6];

/** A directory for this figure on a file system that has a disk. Throws when none is at hand. */
export async function directoryOnDisk(context: BenchContext): Promise<string> {
  const ownCache = join(import.meta.dirname, "../../.cache");
  for (const place of [tmpdir(), ownCache]) {
    await mkdir(place, { recursive: true });
    if (inMemory.includes((await statfs(place)).type)) continue;
    const directory = await mkdtemp(join(place, "fr-bench-"));
    context.defer(() => rm(directory, { recursive: true, force: true, maxRetries: 3 }));
    return directory;
  }
  throw new Error(`${tmpdir()} and ${ownCache} lie in memory: set TMPDIR to a directory on a disk`);
}
