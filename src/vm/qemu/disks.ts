/** What this computer has to give to machines, and what becomes of them when the volume of their scratch disks runs full. */
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Capacity } from "../../domain/size.ts";
import type { VmConfig } from "../config.ts";
import { hostCapacity } from "../local/capacity.ts";
import { createDiskGuard, type DiskGuard } from "../local/disk-guard.ts";
import { hostResources } from "../local/host-resources.ts";
import { diskUses, freeForDisks, freeMib } from "../local/volume.ts";
import { inside } from "./files.ts";
import type { RunningMachines } from "./machines.ts";

/**
 * The hypervisor's own memory beside the guest's. Measured under emulation, which takes most: 52 MiB when idle and 15 more when
 * the translator's buffer is full, beside 68 MiB of program and kernel that all machines share.
 */
const OVERHEAD_MIB = 80;

export async function capacityOf(machines: string, settings: VmConfig): Promise<Capacity> {
  const host = { ...hostResources(), diskMib: await freeForDisks(machines, inside.scratch) };
  return hostCapacity(host, { ...settings, overheadMib: OVERHEAD_MIB });
}

/** Half of what is kept free: until there nothing new is started, and below it somebody has to go. */
const MARK = 0.5;

export function guardDisks(
  machines: string,
  { settings, clock, log }: { readonly settings: VmConfig; readonly clock: Clock; readonly log: Log },
  running: RunningMachines,
): DiskGuard {
  const guard = createDiskGuard({
    ...{ clock, log, markMib: settings.minFreeDisk * MARK },
    freeMib: () => freeMib(machines),
    async disks() {
      const ids = new Set(running.running());
      return new Map([...(await diskUses(machines, inside.scratch))].filter(([id]) => ids.has(id)));
    },
    end: (id, words) => running.end(id, { exit: "host-disk", words }),
  });
  running.onFault(({ exit: { exit } }) => {
    if (exit === "host-disk") guard.look();
  });
  return guard;
}
