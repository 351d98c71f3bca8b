/**
 * As whom machines run. Started by root, each machine gets an unprivileged user of its own, so that a guest that breaks out
 * of its hypervisor finds neither root nor another machine. Otherwise machines run as the user who started this program.
 */
import { VmError } from "../errors.ts";
import type { UserRange } from "./user-ranges.ts";

export interface MachineUsers {
  /** True when each machine has a user of its own, whom this program must switch to. */
  readonly separate: boolean;
  /** Whose they are, once that is known: the first call claims them for this installation. Rejects with `vm_unusable` when it cannot. */
  known(): Promise<KnownUsers>;
}

interface KnownUsers {
  /** Could a process of this user belong to a machine? */
  isOurs(uid: number): boolean;
  /** A user for one more machine, given those in use. Undefined when machines run as ourselves. */
  choose(taken: ReadonlySet<number>): number | undefined;
  /** For trial boots; undefined when machines run as ourselves. */
  readonly forTrials: number | undefined;
}

/** `claim`: the ranges of this installation, the one for new machines first. Asked for once, and again when it failed. */
export function createMachineUsers(
  claim: () => Promise<readonly [UserRange, ...UserRange[]]>,
  ownUid: number,
): MachineUsers {
  if (ownUid !== 0) {
    const ourselves: KnownUsers = {
      isOurs: (uid) => uid === ownUid,
      choose: () => undefined,
      forTrials: undefined,
    };
    return { separate: false, known: async () => ourselves };
  }
  let known: Promise<KnownUsers> | undefined;
  return {
    separate: true,
    async known() {
      known ??= claim().then(usersOf);
      try {
        return await known;
      } catch (error) {
        known = undefined;
        throw error;
      }
    },
  };
}

function usersOf(ranges: readonly [UserRange, ...UserRange[]]): KnownUsers {
  const [{ first, count }] = ranges;
  return {
    isOurs: (uid) => ranges.some((range) => uid >= range.first && uid < range.first + range.count),
    choose(taken) {
      for (let uid = first; uid < first + count; uid++) if (!taken.has(uid)) return uid;
      throw new VmError("vm_create_failed", `all ${count} user ids for machines are in use`, {
        hint: "raise vm.qemu.userIds, or find out why so many machines are left",
        retryable: true,
      });
    },
    forTrials: first + count - 1,
  };
}
