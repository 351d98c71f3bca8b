/** Which processes belong to which machine: a look at all of the host's processes is the final truth for list and destroy. */
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { isMachineId } from "../../base/ids.ts";
import { VmError } from "../errors.ts";
import type { MachineFiles } from "./machine-directory.ts";
import { type HostProcess, hostProcesses, killProcess, killUser } from "./processes.ts";
import type { MachineUsers } from "./users.ts";

const KILL_MS = 15_000;
const LOOK_MS = 10;
/** By now what was found one by one is gone, unless the first strike at all could not be made. */
const PATIENCE_MS = 200;

export interface MachineProcesses {
  /** The running hypervisors of this installation, by machine id. */
  hypervisors(): Promise<ReadonlyMap<string, HostProcess>>;
  /**
   * Ends everything that belongs to a machine, the helpers and whatever runs as its user too, and returns when all of it is
   * gone. Throws `vm_destroy_failed` (retryable) when something stays.
   */
  killAll(files: MachineFiles, uid: number | undefined, signal: AbortSignal): Promise<void>;
}

export interface MachineProcessesDeps {
  /** The directory of all machines. */
  readonly machines: string;
  readonly users: MachineUsers;
  readonly clock: Clock;
  readonly isHypervisor: (args: readonly string[], id: string) => boolean;
}

export function createMachineProcesses({
  machines,
  users,
  clock,
  isHypervisor,
}: MachineProcessesDeps): MachineProcesses {
  /** The machine whose hypervisor a process says that it is. A helper inherits the mark, but not the command line. */
  function machineOf({ machine, args }: HostProcess): string | undefined {
    if (machine === undefined || dirname(machine) !== machines) return undefined;
    const id = basename(machine);
    return isMachineId(id) && isHypervisor(args, id) ? id : undefined;
  }

  async function hypervisors(): Promise<ReadonlyMap<string, HostProcess>> {
    const { isOurs } = await users.known();
    const owned = users.separate ? await owners(machines) : new Map<string, number>();
    const gids = new Set(owned.values());
    const found = new Map<string, HostProcess>();
    for (const process of await hostProcesses((uid) => isOurs(uid) || gids.has(uid))) {
      const id = machineOf(process);
      if (id !== undefined && users.separate && !isCredible(id, process.uid, owned)) continue;
      if (id !== undefined) found.set(id, process);
    }
    return found;
  }

  /** The machine's user, where only this installation uses it. */
  async function ownUser(files: MachineFiles, uid: number | undefined): Promise<number | undefined> {
    if (!users.separate) return undefined;
    const { isOurs } = await users.known();
    // Its directory may have been taken away.
    const own = uid ?? (await hypervisors()).get(basename(files.directory))?.uid;
    return own !== undefined && isOurs(own) ? own : undefined;
  }

  async function killAll(files: MachineFiles, uid: number | undefined, signal: AbortSignal): Promise<void> {
    const { isOurs } = await users.known();
    const own = await ownUser(files, uid);
    const find = async () => {
      const all = await hostProcesses((each) => isOurs(each) || each === uid);
      return all.filter((each) => belongs(each, files, uid, own));
    };
    // All at once first: one that goes on in a child and ends, again and again, is in no list, and an empty one would be taken for its end.
    if (own !== undefined) await killUser(own, signal);
    await killFound(find, files, own, signal);
  }

  /** Until none is found. */
  async function killFound(
    find: () => Promise<HostProcess[]>,
    files: MachineFiles,
    own: number | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const startedAt = clock.now();
    for (let left = await find(); left.length > 0; left = await find()) {
      const waitedMs = clock.now() - startedAt;
      if (waitedMs > KILL_MS) throw stuck(files, left);
      signal.throwIfAborted();
      for (const process of left) await killProcess(process);
      if (own !== undefined && waitedMs > PATIENCE_MS) await killUser(own, signal);
      await clock.sleep(LOOK_MS, signal);
    }
  }

  return { hypervisors, killAll };
}

/** The users of machines, by the groups of their directories, which root has made. */
async function owners(machines: string): Promise<ReadonlyMap<string, number>> {
  const ids = (await readdir(machines)).filter(isMachineId);
  const found = ids.map(async (id): Promise<[string, number][]> => {
    const directory = await stat(join(machines, id)).catch(() => undefined);
    return directory && directory.gid !== 0 ? [[id, directory.gid]] : [];
  });
  return new Map((await Promise.all(found)).flat());
}

/** What a process says of itself counts only where its user is that machine's, or no other machine's. */
function isCredible(id: string, uid: number, owned: ReadonlyMap<string, number>): boolean {
  const owner = owned.get(id);
  return owner === undefined ? ![...owned.values()].includes(uid) : owner === uid;
}

/** `own`: the machine's user where nobody else uses it: all that runs as that user is the machine's, whatever it says. */
function belongs(
  { machine, uid: of }: HostProcess,
  files: MachineFiles,
  uid: number | undefined,
  own: number | undefined,
): boolean {
  if (of === own || machine === files.directory) return true;
  // Of a range that another installation may use as well: one without any mark has hidden it.
  return of === uid && !machine;
}

function stuck(files: MachineFiles, left: readonly HostProcess[]): VmError {
  const pids = left.map((process) => process.pid).join(", ");
  return new VmError("vm_destroy_failed", `processes of ${files.directory} do not end: ${pids}`, {
    hint: "a process that survives SIGKILL waits for a disk or a device; see the kernel's log",
    retryable: true,
  });
}
