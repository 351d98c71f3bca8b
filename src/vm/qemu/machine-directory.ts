import { chmod, chown, mkdir, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { systemCode } from "../../base/errors.ts";
import { isMachineId } from "../../base/ids.ts";
import { makeDirectory } from "../../base/make-directory.ts";
import { hostProcesses } from "../local/processes.ts";
import type { MachineUsers } from "../local/users.ts";
import { inside, type MachineFiles } from "./files.ts";

/** The directories of all machines, and whose they are. A directory's group is its machine's user: there is no other record. */
export interface MachineDirectory {
  /** Every machine that has a directory. */
  ids(): Promise<string[]>;
  exists(files: MachineFiles): Promise<boolean>;
  /**
   * An empty place for a machine, whatever an earlier try left there; the relay's socket stays. Returns the machine's user,
   * or undefined when it runs as ourselves.
   */
  prepare(files: MachineFiles): Promise<number | undefined>;
  /** Gives a file to the machine's user. */
  hand(path: string, uid: number | undefined): Promise<void>;
  /** Takes away what a failed create left, except for the directory and the relay's socket. */
  clear(files: MachineFiles): Promise<void>;
  remove(files: MachineFiles): Promise<void>;
  /** The machine's user, when it has one of its own. */
  userOf(files: MachineFiles): Promise<number | undefined>;
}

/** The least of `vm.qemu.firstUserId`. */
const LEAST_USER_ID = 1_000;

export function createMachineDirectory(machines: string, users: MachineUsers): MachineDirectory {
  let lastChoice: Promise<unknown> = Promise.resolve();

  async function ids(): Promise<string[]> {
    return (await readNames(machines)).filter(isMachineId);
  }

  async function userOf(files: MachineFiles): Promise<number | undefined> {
    const gid = await stat(files.directory).then(
      (entry) => entry.gid,
      () => undefined,
    );
    // Root made the directory and chose its group, perhaps in a range of before.
    return users.separate && gid !== undefined && gid >= LEAST_USER_ID ? gid : undefined;
  }

  async function assignUser(files: MachineFiles): Promise<number | undefined> {
    if (!users.separate) return undefined;
    const entries = await Promise.all(
      (await ids()).map((id) => stat(join(machines, id)).catch(() => undefined)),
    );
    const { isOurs, choose } = await users.known();
    const running = (await hostProcesses(isOurs)).map((process) => process.uid);
    const uid = choose(new Set([...entries.map((entry) => entry?.gid ?? -1), ...running]));
    if (uid === undefined) return undefined;
    await chown(files.directory, 0, uid);
    await chmod(files.directory, 0o750);
    return uid;
  }

  /** One after the other, so that two machines never get one user. */
  function inTurn<T>(choose: () => Promise<T>): Promise<T> {
    const turn = lastChoice.then(choose);
    lastChoice = turn.catch(() => {});
    return turn;
  }

  async function clear(files: MachineFiles): Promise<void> {
    for (const name of await readNames(files.directory))
      if (name !== inside.relay) await rm(join(files.directory, name), { recursive: true, force: true });
  }

  async function hand(path: string, uid: number | undefined): Promise<void> {
    if (uid !== undefined) await chown(path, uid, uid);
  }

  async function prepare(files: MachineFiles): Promise<number | undefined> {
    await makeDirectory(files.directory, 0o700);
    await clear(files);
    const uid = await inTurn(() => assignUser(files));
    await mkdir(files.run, { mode: 0o700 });
    await hand(files.run, uid);
    await writeFile(files.console, "", { mode: 0o600 });
    await hand(files.console, uid);
    return uid;
  }

  return {
    ids,
    exists: async (files) => (await stat(files.directory).catch(() => undefined)) !== undefined,
    prepare,
    hand,
    clear,
    remove: (files) => rm(files.directory, { recursive: true, force: true, maxRetries: 3 }),
    userOf,
  };
}

async function readNames(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (systemCode(error) === "ENOENT") return [];
    throw error;
  }
}
