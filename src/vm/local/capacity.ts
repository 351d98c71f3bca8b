/**
 * What this computer has to give to machines: its CPUs and memory after over-commit and reserve, and the volume on which their scratch
 * disks lie, with what each takes up there.
 */

import { readdir, stat, statfs } from "node:fs/promises";
import { availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import { MIB_BYTES } from "../../base/units.ts";
import type { Capacity } from "../../domain/size.ts";

/** What `blocks` of a file's status count, whatever the file system's own blocks. */
const STAT_BLOCK_BYTES = 512;

interface HostResources {
  /** CPUs this process may use. */
  readonly cpus: number;
  /** Memory of the host, or of the control group that this process lives in. */
  readonly memoryMib: number;
  /** What the machines' scratch disks could take up together: free space, and what they take up now. */
  readonly diskMib: number;
}

interface CapacityRules {
  readonly cpuOvercommit: number;
  readonly memoryReserve?: number | undefined;
  readonly maxMachines?: number | undefined;
  /** MiB that the machines' disks leave free. */
  readonly minFreeDisk: number;
  readonly overcommit: { readonly disk: number };
  /** What a machine takes beside the memory its guest was given. */
  readonly overheadMib: number;
}

/**
 * What can be given to machines. Every machine has at least one CPU, so there are never more machines than CPUs to give;
 * the overhead of that many is kept aside, because a slot counts only the memory of the guest.
 */
export function hostCapacity(host: HostResources, rules: CapacityRules): Capacity {
  const cpus = Math.max(1, Math.floor(host.cpus * rules.cpuOvercommit));
  const machines = Math.min(cpus, rules.maxMachines ?? cpus);
  const reserveMib = rules.memoryReserve ?? Math.max(GIB_MIB, host.memoryMib / 10);
  const memoryMib = Math.floor(host.memoryMib - reserveMib - machines * rules.overheadMib);
  const diskMib = Math.floor((host.diskMib - rules.minFreeDisk) * rules.overcommit.disk);
  return { cpus, memoryMib: Math.max(0, memoryMib), machines, diskMib: Math.max(0, diskMib) };
}

/** This computer, or the part of it that a container or a service unit leaves us. */
export function hostResources(): Omit<HostResources, "diskMib"> {
  const limit = process.constrainedMemory();
  const bytes = limit > 0 ? Math.min(limit, totalmem()) : totalmem();
  return { cpus: availableParallelism(), memoryMib: Math.floor(bytes / MIB_BYTES) };
}

/** A scratch disk on the volume. */
export interface DiskUse {
  readonly writtenMib: number;
  /** As big as its guest sees it. */
  readonly sizeMib: number;
}

const GIB_MIB = 1_024;

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
