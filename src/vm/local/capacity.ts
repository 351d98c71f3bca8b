import type { Capacity } from "../../domain/size.ts";

const GIB_MIB = 1_024;

export interface HostResources {
  /** CPUs this process may use. */
  readonly cpus: number;
  /** Memory of the host, or of the control group that this process lives in. */
  readonly memoryMib: number;
  /** What the machines' scratch disks could take up together: free space, and what they take up now. */
  readonly diskMib: number;
}

export interface CapacityRules {
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
