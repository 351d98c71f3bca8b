/** Which processes belong to which machine: a look at all of the host's processes is the final truth for list and destroy. */
import { basename, dirname } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { isMachineId } from "../../base/ids.ts";
import { VmError } from "../errors.ts";
import { type HostProcess, hostProcesses, killProcess } from "../local/processes.ts";
import type { MachineUsers } from "../local/users.ts";
import type { MachineFiles } from "./files.ts";

const KILL_MS = 15_000;
const LOOK_MS = 10;

export interface Identity {
  /** The running hypervisors of this installation, by machine id. */
  hypervisors(): Promise<ReadonlyMap<string, HostProcess>>;
  /**
   * Ends everything that belongs to a machine, the helpers and whatever runs as its user too, and returns when all of it is
   * gone. Throws `vm_destroy_failed` (retryable) when something stays.
   */
  killAll(files: MachineFiles, uid: number | undefined, signal: AbortSignal): Promise<void>;
}

export function createIdentity(machines: string, users: MachineUsers, clock: Clock): Identity {
  function machineOf({ machine, args }: HostProcess): string | undefined {
    if (machine === undefined || dirname(machine) !== machines) return undefined;
    const id = basename(machine);
    // A helper inherits the mark, but not the name.
    const isHypervisor = args.includes("-name") && args[args.indexOf("-name") + 1] === id;
    return isMachineId(id) && isHypervisor ? id : undefined;
  }

  async function hypervisors(): Promise<ReadonlyMap<string, HostProcess>> {
    const found = new Map<string, HostProcess>();
    for (const process of await hostProcesses(users.isOurs)) {
      const id = machineOf(process);
      if (id !== undefined) found.set(id, process);
    }
    return found;
  }

  async function killAll(files: MachineFiles, uid: number | undefined, signal: AbortSignal): Promise<void> {
    const deadline = clock.now() + KILL_MS;
    for (;;) {
      const all = await hostProcesses(users.isOurs);
      // A process of the machine's user without any mark has hidden it. One with another mark is another installation's.
      const left = all.filter(
        (each) => each.machine === files.directory || (each.uid === uid && !each.machine),
      );
      if (left.length === 0) return;
      if (clock.now() > deadline) throw stuck(files, left);
      signal.throwIfAborted();
      for (const process of left) await killProcess(process);
      await clock.sleep(LOOK_MS, signal);
    }
  }

  return { hypervisors, killAll };
}

function stuck(files: MachineFiles, left: readonly HostProcess[]): VmError {
  const pids = left.map((process) => process.pid).join(", ");
  return new VmError("vm_destroy_failed", `processes of ${files.directory} do not end: ${pids}`, {
    hint: "a process that survives SIGKILL waits for a disk or a device; see the kernel's log",
    retryable: true,
  });
}
