/** The volume on which the machines' scratch disks lie: what is free there, and what each disk takes up of it. */
import { readdir, stat, statfs } from "node:fs/promises";
import { join } from "node:path";

const MIB_BYTES = 1024 ** 2;
/** What `blocks` of a file's status count, whatever the file system's own blocks. */
const STAT_BLOCK_BYTES = 512;

/** What this program's user may still write there, in MiB. */
export async function freeMib(directory: string): Promise<number> {
  const { bavail, bsize } = await statfs(directory);
  return (bavail * bsize) / MIB_BYTES;
}

/** What the file `name` in each directory below `machines` takes up, in MiB, by the directory's name. Holes take up nothing. */
export async function writtenMib(machines: string, name: string): Promise<ReadonlyMap<string, number>> {
  const directories = await readdir(machines);
  const found = await Promise.all(
    directories.map(async (directory): Promise<[string, number][]> => {
      const file = await stat(join(machines, directory, name)).catch(() => undefined);
      return file ? [[directory, (file.blocks * STAT_BLOCK_BYTES) / MIB_BYTES]] : [];
    }),
  );
  return new Map(found.flat());
}

/**
 * How much the scratch disks of machines could take up together, in MiB: what is free and what they take up already. As machines
 * write, one becomes the other, so that the sum changes only with what others do on the volume.
 */
export async function roomForDisks(machines: string, name: string): Promise<number> {
  const free = await freeMib(machines);
  const written = await writtenMib(machines, name);
  return free + [...written.values()].reduce((sum, mib) => sum + mib, 0);
}
