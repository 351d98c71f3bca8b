/**
 * The directory of each machine: what lies in it, whose it is, and its scratch disk. A directory is all that is kept of a machine; its
 * group is the machine's user.
 */
import {
  chmod,
  chown,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  statfs,
  writeFile,
} from "node:fs/promises";
import { dirname, join } from "node:path";
import { systemCode } from "../../base/errors.ts";
import { isMachineId } from "../../base/ids.ts";
import { createMutex } from "../../base/keyed-mutex.ts";
import { ProcessError, run } from "../../base/process.ts";
import { makeDirectory } from "../../base/trusted-file.ts";
import { formatMib, MIB_BYTES } from "../../base/units.ts";
import type { Exit, ExitKind } from "../driver.ts";
import { VmError } from "../errors.ts";
import type { HypervisorFiles } from "./hypervisor.ts";
import { hostProcesses } from "./processes.ts";
import type { MachineUsers } from "./users.ts";

/** The least of `vm.qemu.firstUserId`. */
const LEAST_USER_ID = 1_000;
/** The longest path of a unix socket, without its closing zero byte. */
const SOCKET_PATH_BYTES = 107;

/**
 * What lies in a machine's directory. Root owns the directory and the machine's user may only look: a hypervisor that was
 * taken over cannot replace a file that this program writes to. It has `run` to itself.
 */
export interface MachineFiles {
  readonly directory: string;
  readonly relay: string;
  readonly console: string;
  readonly scratch: string;
  /** What the hypervisor itself has to say. */
  readonly log: string;
  readonly run: string;
  /** The hypervisor's control socket. */
  readonly control: string;
  /** How the machine ended, once that is known. */
  readonly exit: string;
}

/** Names that the hypervisor, whose working directory is the machine's, uses: short whatever the state directory. */
export const inside = {
  relay: "relay.sock",
  console: "console.log",
  scratch: "scratch.img",
} as const;

export function machineFiles(machines: string, id: string, { log, control }: HypervisorFiles): MachineFiles {
  const directory = join(machines, id);
  return {
    directory,
    relay: join(directory, inside.relay),
    console: join(directory, inside.console),
    scratch: join(directory, inside.scratch),
    log: join(directory, log),
    run: join(directory, "run"),
    control: join(directory, control),
    exit: join(directory, "exit"),
  };
}

/** How many bytes the longest socket path below this directory has over what the system takes; 0 when it fits. */
export function socketPathExcess(machines: string, names: HypervisorFiles): number {
  const { relay, control } = machineFiles(machines, "fr-aaaaaaaa", names);
  const longest = Math.max(Buffer.byteLength(relay), Buffer.byteLength(control));
  return Math.max(0, longest - SOCKET_PATH_BYTES);
}

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
  giveTo(path: string, uid: number | undefined): Promise<void>;
  /** Takes away what a failed create left, except for the directory and the relay's socket. */
  clear(files: MachineFiles): Promise<void>;
  remove(files: MachineFiles): Promise<void>;
  /** The machine's user, when it has one of its own. */
  userOf(files: MachineFiles): Promise<number | undefined>;
}

export function createMachineDirectory(machines: string, users: MachineUsers): MachineDirectory {
  /** One after the other, so that two machines never get one user. */
  const oneAtATime = createMutex();

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

  async function clear(files: MachineFiles): Promise<void> {
    for (const name of await readNames(files.directory))
      if (name !== inside.relay) await rm(join(files.directory, name), { recursive: true, force: true });
  }

  async function giveTo(path: string, uid: number | undefined): Promise<void> {
    if (uid !== undefined) await chown(path, uid, uid);
  }

  async function prepare(files: MachineFiles): Promise<number | undefined> {
    await makeDirectory(files.directory, 0o700);
    await clear(files);
    const uid = await oneAtATime(() => assignUser(files));
    await mkdir(files.run, { mode: 0o700 });
    await giveTo(files.run, uid);
    await writeFile(files.console, "", { mode: 0o600 });
    await giveTo(files.console, uid);
    return uid;
  }

  return {
    ids,
    exists: async (files) => (await stat(files.directory).catch(() => undefined)) !== undefined,
    prepare,
    giveTo,
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

interface ScratchDisk {
  readonly path: string;
  readonly sizeMib: number;
  /** Full path of mkfs.ext4. */
  readonly mkfs: string;
  /** The disk is refused while less than this is free: a sparse file must have room to grow. */
  readonly minFreeMib: number;
}

/**
 * Makes an empty ext4 of the given size in a sparse file, labelled `scratch`. Without a journal and without room to be
 * enlarged: nobody mounts it a second time, and both cost real blocks and most of the time that making it takes. Replaces a
 * file of an earlier try. Throws `vm_disk_full` (retryable).
 */
export async function makeScratchDisk(disk: ScratchDisk, signal: AbortSignal): Promise<void> {
  await checkFree(disk);
  await rm(disk.path, { force: true });
  try {
    const file = await open(disk.path, "wx", 0o600);
    await file.truncate(disk.sizeMib * MIB_BYTES).finally(() => file.close());
    const features = ["-O", "^has_journal,^resize_inode", "-E", "lazy_itable_init=1,nodiscard", "-m", "0"];
    await run(disk.mkfs, ["-q", "-F", "-L", "scratch", ...features, disk.path], { signal });
  } catch (error) {
    signal.throwIfAborted();
    if (isFull(error)) throw diskFull(disk, error);
    throw new VmError("vm_create_failed", `making the scratch disk ${disk.path} failed`, { cause: error });
  }
}

async function checkFree(disk: ScratchDisk): Promise<void> {
  const { bavail, bsize } = await statfs(dirname(disk.path));
  const freeMib = (bavail * bsize) / MIB_BYTES;
  if (freeMib < Math.min(disk.minFreeMib, disk.sizeMib)) throw diskFull(disk, undefined, freeMib);
}

function isFull(error: unknown): boolean {
  if (error instanceof ProcessError) return /no space left|quota exceeded/i.test(error.stderrTail);
  return ["ENOSPC", "EDQUOT"].includes(systemCode(error) ?? "");
}

function diskFull(disk: ScratchDisk, cause: unknown, freeMib?: number): VmError {
  const free = freeMib === undefined ? "" : `: ${formatMib(freeMib)} are free`;
  return new VmError("vm_disk_full", `no room for a scratch disk in ${dirname(disk.path)}${free}`, {
    cause,
    hint: "free some disk space there, or set vm.minFreeDisk lower",
    retryable: true,
  });
}

const exitKinds: readonly string[] = [
  "orderly",
  "crash",
  "killed",
  "host-disk",
  "disk-error",
  "host-memory",
  "lost",
] satisfies readonly ExitKind[];

/** `before` and `after`: how many processes the kernel had killed for want of memory, at the machine's start and at its end. */
export function exitWithMemory(
  exit: ExitKind,
  before: number | undefined,
  after: number | undefined,
): ExitKind {
  return exit === "killed" && before !== undefined && after !== undefined && after > before
    ? "host-memory"
    : exit;
}

/** The end that was remembered, or undefined when none was seen. */
export async function readExit(files: MachineFiles): Promise<Exit | undefined> {
  const text = await readFile(files.exit, "utf8").catch(() => "");
  const [kind = "", words = ""] = text.split("\n");
  if (!exitKinds.includes(kind)) return undefined;
  return { exit: kind as ExitKind, ...(words === "" ? {} : { words }) };
}

/** Remembers the end, so that it survives this program. Nothing is remembered of a machine that is being removed. */
export async function writeExit(files: MachineFiles, { exit, words }: Exit): Promise<void> {
  const draft = `${files.exit}.new`;
  try {
    await writeFile(draft, words === undefined ? `${exit}\n` : `${exit}\n${words}\n`, { mode: 0o600 });
    await rename(draft, files.exit);
  } catch (error) {
    if (systemCode(error) !== "ENOENT") throw error;
  }
}
