/**
 * Finding and ending processes that outlive this program. A process is known by its pid and its start time together; to
 * which machine it belongs says the variable that it was started with and that its children inherit, read from /proc: the
 * only record that cannot be lost, torn or out of date.
 */

import { constants } from "node:fs";
import { access, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { systemCode } from "../../base/errors.ts";
import { run } from "../../base/process.ts";

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
