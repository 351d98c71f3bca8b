import { availableParallelism, totalmem } from "node:os";
import { MIB_BYTES } from "../../base/units.ts";
import type { HostResources } from "./capacity.ts";

/** This computer, or the part of it that a container or a service unit leaves us. */
export function hostResources(): Omit<HostResources, "diskMib"> {
  const limit = process.constrainedMemory();
  const bytes = limit > 0 ? Math.min(limit, totalmem()) : totalmem();
  return { cpus: availableParallelism(), memoryMib: Math.floor(bytes / MIB_BYTES) };
}
