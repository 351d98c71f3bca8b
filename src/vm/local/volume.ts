/** The volume on which the machines' scratch disks lie: what is free there, and what each disk takes up of it. */

import { readdir, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { MIB_BYTES } from "../../base/units.ts";

/** What `blocks` of a file's status count, whatever the file system's own blocks. */
const STAT_BLOCK_BYTES = 512;

/** A scratch disk on the volume. */
export interface DiskUse {
  readonly writtenMib: number;
  /** As big as its guest sees it. */
  readonly sizeMib: number;
}

/** What this program's user may still write there, in MiB. */
export async function freeMib(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  return (bavail * bsize) / MIB_BYTES;
}

/** The file `name` in each directory below `machines`, by the directory's name. Holes take up nothing. */
export async function diskUses(machines: string, name: string): Promise<ReadonlyMap<string, DiskUse>> {
  const directories = await readdir(machines);
  const found = await Promise.all(
    directories.map(async (directory): Promise<[string, DiskUse][]> => {
      const file = await stat(join(machines, directory, name)).catch(() => undefined);
      if (!file) return [];
      const writtenMib = (file.blocks * STAT_BLOCK_BYTES) / MIB_BYTES;
      return [[directory, { writtenMib, sizeMib: file.size / MIB_BYTES }]];
    }),
  );
  return new Map(found.flat());
}

/**
 * How much the scratch disks of machines could take up together, in MiB: what is free and what they take up already. As machines
 * write, one becomes the other, so that the sum changes only with what others do on the volume.
 */
export async function freeForDisks(machines: string, name: string): Promise<number> {
  const free = await freeMib(machines);
  const uses = await diskUses(machines, name);
  return free + [...uses.values()].reduce((sum, { writtenMib }) => sum + writtenMib, 0);
}
