/**
 * Processes that outlive this program: found, started and ended. A process is known by its pid and its start time together; to which machine
 * it belongs says the variable that it was started with and that its children inherit, read from /proc: the only record that cannot be
 * lost, torn or out of date.
 *
 * The hypervisor is started as nobody's child to kill: a session of its own, no pipes to us, its working directory the machine's. Not
 * `-daemonize`: that would change to `/`, and the short relative names are worth more than its exit status. The directory is entered
 * before rights are given up, so no parent needs to be open to the machine's user.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:fs";
import { access, type FileHandle, open, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { setPriority } from "node:os";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { systemCode } from "../../base/errors.ts";
import { run } from "../../base/process.ts";
import { MIB_BYTES } from "../../base/units.ts";

const MARK = "FIRERUNNER_MACHINE";
const TICK_MS = 10;

export interface ProcessId {
  readonly pid: number;
  /** Clock ticks (10 ms) from the host's boot to the process's start. */
  readonly startTicks: number;
}

export interface HostProcess extends ProcessId {
  readonly uid: number;
  /** The machine's directory, when the process was started for one. */
  readonly machine: string | undefined;
  readonly args: readonly string[];
}

/** The environment that marks a process, and all its children, as belonging to the machine in this directory. */
export function processMark(directory: string): Readonly<Record<string, string>> {
  return { [MARK]: directory };
}

/** The processes of the users that `isOurs` accepts. Those that have ended but were not yet waited for are left out. */
export async function hostProcesses(isOurs: (uid: number) => boolean): Promise<HostProcess[]> {
  const names = await readdir("/proc");
  const pids = names.filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(pids.map((pid) => readProcess(pid, isOurs)));
  return found.filter((each) => each !== undefined);
}

async function readProcess(pid: number, isOurs: (uid: number) => boolean): Promise<HostProcess | undefined> {
  try {
    const { uid } = await stat(`/proc/${pid}`);
    if (!isOurs(uid)) return undefined;
    const startTicks = await startTicksOf(pid);
    if (startTicks === undefined) return undefined;
    const [environment, command] = await Promise.all([
      readFile(`/proc/${pid}/environ`, "utf8"),
      readFile(`/proc/${pid}/cmdline`, "utf8"),
    ]);
    const mark = environment.split("\0").find((entry) => entry.startsWith(`${MARK}=`));
    return { pid, startTicks, uid, machine: mark?.slice(MARK.length + 1), args: command.split("\0") };
  } catch {
    // It ended meanwhile, or it is somebody else's.
    return undefined;
  }
}

/** Undefined when there is no such process, or nothing but its exit status is left of it. */
export async function startTicksOf(pid: number): Promise<number | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  // The name in parentheses may itself hold spaces and parentheses; the state follows the last one.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [state, ticks] = [fields[0], fields[19]];
  return ticks === undefined || state === "Z" || state === "X" ? undefined : Number(ticks);
}

export async function isAlive({ pid, startTicks }: ProcessId): Promise<boolean> {
  return (await startTicksOf(pid)) === startTicks;
}

/** SIGKILL, unless the pid is somebody else's by now. */
export async function killProcess(id: ProcessId): Promise<void> {
  if (!(await isAlive(id))) return;
  try {
    process.kill(id.pid, "SIGKILL");
  } catch (error) {
    if (systemCode(error) !== "ESRCH") throw error;
  }
}

/**
 * SIGKILL to all that runs as this user, in one call of the kernel, so that none of them can fork in between. Only for root. Never
 * rejects for want of processes: the caller looks again.
 */
export async function killUser(uid: number, signal: AbortSignal): Promise<void> {
  const ids = ["--reuid", String(uid), "--regid", String(uid), "--clear-groups", "--bounding-set=-all"];
  const setpriv = (await findProgram("setpriv")) ?? "setpriv";
  // As root it would end everything: it is asked once more who it is.
  const command = 'test "$(id -u)" = "$0" && kill -KILL -1';
  await run(setpriv, [...ids, "--", "/bin/sh", "-c", command, String(uid)], { cwd: "/", signal }).catch(
    () => {},
  );
}

/** When the process started (epoch ms). */
export async function processStartedAt(id: ProcessId, clock: Clock): Promise<number> {
  const uptime = Number((await readFile("/proc/uptime", "utf8")).split(" ")[0]);
  return Math.round(clock.now() - (uptime * 1_000 - id.startTicks * TICK_MS));
}

/** A name for the time from this boot of the host to the next. */
export async function hostBootId(): Promise<string> {
  return (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
}

/** Where programs are looked for. The environment's PATH is not asked: an administrator's tools lie in sbin. */
const directories = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/** The PATH that helper processes get. */
export const programPath: string = directories.join(":");

/** The full path of a program, or undefined when it is not installed. */
export async function findProgram(name: string): Promise<string | undefined> {
  for (const directory of directories) {
    const path = join(directory, name);
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  return undefined;
}

/**
 * How many processes the kernel of this computer has killed for want of memory since it booted, whichever they were: whose they were
 * only its log says, which not everybody may read. Undefined where the kernel does not count them.
 */
export async function oomKills(vmstat = "/proc/vmstat"): Promise<number | undefined> {
  const text = await readFile(vmstat, "utf8").catch(() => "");
  const count = /^oom_kill (\d+)$/m.exec(text)?.[1];
  return count === undefined ? undefined : Number(count);
}

/** Processes and threads that one machine's user may have: virtual CPUs, I/O threads, and one socat per connection. */
const MAX_TASKS = 512;
const NICENESS = 5;
const OOM_SCORE = 500;

export interface LaunchUser {
  readonly uid: number;
  /** The group that may open the device of its acceleration, where it takes one. */
  readonly deviceGid: number | undefined;
}

interface LaunchPrograms {
  readonly setpriv: string;
  readonly prlimit: string;
}

/**
 * The command that gives up all rights for good and then becomes the hypervisor, keeping its pid. No file grows beyond
 * `maxFileMib`, the size of the scratch disk: while this program is away, nobody cuts the console of a guest that floods it.
 */
export function unprivileged(
  programs: LaunchPrograms,
  user: LaunchUser | undefined,
  maxFileMib: number,
  command: readonly string[],
): [string, ...string[]] {
  const { setpriv, prlimit } = programs;
  // A dump of the hypervisor would hold the job's secrets.
  const limits = ["--core=0", `--fsize=${maxFileMib * MIB_BYTES}`];
  // Also without root: nothing that the hypervisor starts may gain rights through set-uid files.
  if (user === undefined) return [prlimit, ...limits, "--", setpriv, "--no-new-privs", "--", ...command];
  const groups = user.deviceGid === undefined ? ["--clear-groups"] : ["--groups", String(user.deviceGid)];
  const ids = ["--reuid", String(user.uid), "--regid", String(user.uid), ...groups];
  const rights = ["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"];
  // Counted for each user, so it says something only where each machine has its own.
  limits.push(`--nproc=${MAX_TASKS}`);
  return [prlimit, ...limits, "--", setpriv, ...ids, ...rights, "--", ...command];
}

/**
 * Returns once the process was started; whether it goes on to run a machine is another question. It inherits the image disks, as
 * descriptors from FIRST_IMAGE_DISK on.
 */
export async function launch(
  [command, ...args]: readonly [string, ...string[]],
  files: { readonly directory: string; readonly log: string },
  imageDisks: readonly FileHandle[] = [],
): Promise<ChildProcess> {
  const log = await open(files.log, "a", 0o600);
  try {
    const child = spawn(command, args, {
      cwd: files.directory,
      env: { PATH: programPath, LANG: "C.UTF-8", ...processMark(files.directory) },
      detached: true,
      stdio: ["ignore", log.fd, log.fd, ...imageDisks.map(({ fd }) => fd)],
    });
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", reject);
    });
    child.on("error", () => {});
    if (child.pid !== undefined) await yieldToOthers(child.pid);
    child.unref();
    return child;
  } finally {
    await log.close();
  }
}

/** When the host runs short of CPU or memory, guests give way to this program, which looks after all of them. */
async function yieldToOthers(pid: number): Promise<void> {
  try {
    setPriority(pid, NICENESS);
    await writeFile(`/proc/${pid}/oom_score_adj`, String(OOM_SCORE));
  } catch {
    // It has ended already, which the caller will see, or the host does not allow it, which is no reason to stop.
  }
}
