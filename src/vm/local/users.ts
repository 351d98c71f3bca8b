/**
 * As whom machines run. Started by root, each machine gets an unprivileged user of its own, so that a guest that breaks out
 * of its hypervisor finds neither root nor another machine. Otherwise machines run as the user who started this program.
 */
import { VmError } from "../errors.ts";

export interface UserRange {
  readonly firstUserId: number;
  readonly userIds: number;
}

export interface MachineUsers {
  /** True when each machine has a user of its own, whom this program must switch to. */
  readonly separate: boolean;
  /** Could a process of this user belong to a machine? */
  isOurs(uid: number): boolean;
  /** A user for one more machine, given those in use. Undefined when machines run as ourselves. */
  choose(taken: ReadonlySet<number>): number | undefined;
}

export function createMachineUsers(range: UserRange, ownUid: number): MachineUsers {
  const end = range.firstUserId + range.userIds;
  if (ownUid !== 0) return { separate: false, isOurs: (uid) => uid === ownUid, choose: () => undefined };
  return {
    separate: true,
    isOurs: (uid) => uid >= range.firstUserId && uid < end,
    choose(taken) {
      for (let uid = range.firstUserId; uid < end; uid++) if (!taken.has(uid)) return uid;
      throw new VmError("vm_create_failed", `all ${range.userIds} user ids for machines are in use`, {
        hint: "raise vm.qemu.userIds, or find out why so many machines are left",
        retryable: true,
      });
    },
  };
}
