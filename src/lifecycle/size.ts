import { formatMib } from "../base/units.ts";

/** What a machine is given, and what a slot reserves. */
export interface Size {
  /** Virtual CPUs. Whole, but for machines by tag whose driver can give parts of one. */
  readonly cpus: number;
  readonly memoryMib: number;
  /** Scratch disk the job may fill; sparse on the host. */
  readonly diskMib: number;
}

/** What a host has to give: CPUs after over-commit, memory after the operator's reserve, machines at most. */
export interface Capacity {
  readonly cpus: number;
  readonly memoryMib: number;
  readonly machines: number;
}

/** Sums what `sizes` take. Disk is sparse and watched apart, so it is not part of a capacity. */
export function occupied(sizes: readonly Size[]): Capacity {
  return {
    cpus: sizes.reduce((sum, size) => sum + size.cpus, 0),
    memoryMib: sizes.reduce((sum, size) => sum + size.memoryMib, 0),
    machines: sizes.length,
  };
}

/** True when one more machine of `size` fits beside what is `taken`. */
export function fits(total: Capacity, taken: Capacity, size: Size): boolean {
  return (
    taken.machines + 1 <= total.machines &&
    taken.cpus + size.cpus <= total.cpus &&
    taken.memoryMib + size.memoryMib <= total.memoryMib
  );
}

/** `2 CPUs, 4 GiB`. For people. */
export function describeSize(size: Size): string {
  return `${size.cpus} ${size.cpus === 1 ? "CPU" : "CPUs"}, ${formatMib(size.memoryMib)}`;
}
