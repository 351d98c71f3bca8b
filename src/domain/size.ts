import { formatMib } from "../base/units.ts";

/** What a machine is given, and what a slot reserves. */
export interface Size {
  /** Virtual CPUs. Whole, but for machines by tag whose driver can give parts of one. */
  readonly cpus: number;
  readonly memoryMib: number;
  /** Scratch disk the job may fill; sparse on the host. */
  readonly diskMib: number;
}

/** What a host has to give: CPUs and disk after over-commit, memory after the operator's reserve, machines at most. */
export interface Capacity {
  readonly cpus: number;
  readonly memoryMib: number;
  readonly machines: number;
  /** For scratch disks, each counted whole however little of it is written. Undefined: nobody has said, and disk is no limit there. */
  readonly diskMib?: number | undefined;
}

/** What machines take of a host together. */
export interface Taken {
  readonly cpus: number;
  readonly memoryMib: number;
  readonly machines: number;
  readonly diskMib: number;
}

/** Sums what `sizes` take. */
export function occupied(sizes: readonly Size[]): Taken {
  return {
    cpus: sizes.reduce((sum, size) => sum + size.cpus, 0),
    memoryMib: sizes.reduce((sum, size) => sum + size.memoryMib, 0),
    machines: sizes.length,
    diskMib: sizes.reduce((sum, size) => sum + size.diskMib, 0),
  };
}

/** True when one more machine of `size` fits beside what is `taken`. */
export function fits(total: Capacity, taken: Taken, size: Size): boolean {
  return fitsBesideDisk(total, taken, size) && diskFits(total, taken, size);
}

/** As `fits`, whatever its disk. */
export function fitsBesideDisk(total: Capacity, taken: Taken, size: Size): boolean {
  return (
    taken.machines + 1 <= total.machines &&
    taken.cpus + size.cpus <= total.cpus &&
    taken.memoryMib + size.memoryMib <= total.memoryMib
  );
}

function diskFits({ diskMib }: Capacity, taken: Taken, size: Size): boolean {
  return diskMib === undefined || taken.diskMib + size.diskMib <= diskMib;
}

/** `2 CPUs, 4 GiB`. For people. */
export function describeSize(size: Size): string {
  return `${size.cpus} ${size.cpus === 1 ? "CPU" : "CPUs"}, ${formatMib(size.memoryMib)}`;
}
