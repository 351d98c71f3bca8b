import { isMachineId } from "../base/ids.ts";
import type { MachineSpec } from "./driver.ts";
import { VmError } from "./errors.ts";

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
  checkWhole(id, "MiB of disk", size.diskMib, 16, 16 * 1024 ** 2);
}

function checkWhole(id: string, what: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new VmError(
    "vm_bad_spec",
    `machine ${id} cannot have ${value} ${what}: expected ${least} to ${most}`,
  );
}
