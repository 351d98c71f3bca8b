import { isMachineId } from "../base/ids.ts";
import { formatMib } from "../base/units.ts";
import type { Size } from "../domain/size.ts";
import type { MachineSpec } from "./driver.ts";
import { VmError } from "./errors.ts";

export const LEAST_DISK_MIB = 16;

/** Throws `vm_bad_spec` for anything but an id made by `newMachineId`: ids become parts of paths. */
export function checkMachineId(id: string): void {
  if (isMachineId(id)) return;
  throw new VmError("vm_bad_spec", `“${id.slice(0, 40)}” is not a machine id`);
}

/** Throws `vm_bad_spec` for a machine that no driver could make. */
export function checkSpec({ id, size }: MachineSpec): void {
  checkMachineId(id);
  checkWhole(id, "CPUs", size.cpus, 1, 255);
  checkWhole(id, "MiB of memory", size.memoryMib, 64, 16 * 1024 ** 2);
  checkWhole(id, "MiB of disk", size.diskMib, LEAST_DISK_MIB, 16 * 1024 ** 2);
}

/** Throws `vm_bad_spec` for image disks that a driver of this name, which takes `most` of them, cannot attach. */
export function checkImageDisks(driver: string, { id, imageDisks = [] }: MachineSpec, most: number): void {
  if (imageDisks.length > 0 && most === 0)
    throw new VmError(
      "vm_bad_spec",
      `the ${driver} driver cannot give machine ${id} disks with container images`,
      {
        hint: "run such jobs in a pool of another driver, such as qemu",
      },
    );
  if (imageDisks.length > most)
    throw new VmError(
      "vm_bad_spec",
      `machine ${id} cannot have ${imageDisks.length} disks with container images: the ${driver} driver gives ${most} at most`,
      { hint: "let the job name fewer images and services" },
    );
  const relative = imageDisks.find((path) => !path.startsWith("/"));
  if (relative !== undefined)
    throw new VmError("vm_bad_spec", `the image disk “${relative}” of machine ${id} is not an absolute path`);
}

export interface SizeLimits {
  readonly mostCpus: number;
  readonly leastMemoryMib: number;
}

/** With less memory the kernel cannot unpack the initramfs and start a job's shell. */
export const qemuSizeLimits: SizeLimits = { mostCpus: 64, leastMemoryMib: 128 };
export const fakeSizeLimits: SizeLimits = { mostCpus: 255, leastMemoryMib: 64 };

/** Why a driver that gives whole CPUs and MiB within these limits has no machine of this size, in words. */
export function unusableSize(
  driver: string,
  { cpus, memoryMib }: Size,
  limits: SizeLimits,
): string | undefined {
  const { mostCpus, leastMemoryMib } = limits;
  if (!Number.isInteger(cpus)) return `the ${driver} driver gives whole CPUs only`;
  if (cpus < 1 || cpus > mostCpus) return `the ${driver} driver gives 1 to ${mostCpus} CPUs`;
  if (!Number.isInteger(memoryMib)) return `the ${driver} driver gives whole MiB of memory only`;
  if (memoryMib < leastMemoryMib) return `the ${driver} driver needs ${formatMib(leastMemoryMib)} of memory`;
  return undefined;
}

function checkWhole(id: string, what: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new VmError(
    "vm_bad_spec",
    `machine ${id} cannot have ${value} ${what}: expected ${least} to ${most}`,
  );
}
