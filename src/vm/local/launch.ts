/**
 * Starts the hypervisor as a process that is nobody's child to kill: a session of its own, no pipes to us, its working
 * directory the machine's. Not `-daemonize`: that would change to `/`, and the short relative names are worth more than
 * its exit status. The directory is entered before rights are given up, so no parent needs to be open to the machine's user.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { open, writeFile } from "node:fs/promises";
import { setPriority } from "node:os";
import { MIB_BYTES } from "../../base/units.ts";
import type { MachineFiles } from "./machine-directory.ts";
import { processMark, programPath } from "./processes.ts";

/** Processes and threads that one machine's user may have: virtual CPUs, I/O threads, and one socat per connection. */
const MAX_TASKS = 512;
const NICENESS = 5;
const OOM_SCORE = 500;

export interface LaunchUser {
  readonly uid: number;
  /** The group that may open the device of its acceleration, where it takes one. */
  readonly deviceGid: number | undefined;
}

export interface LaunchPrograms {
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

/** Returns once the process was started; whether it goes on to run a machine is another question. */
export async function launch(
  [command, ...args]: readonly [string, ...string[]],
  files: MachineFiles,
): Promise<ChildProcess> {
  const log = await open(files.log, "a", 0o600);
  try {
    const child = spawn(command, args, {
      cwd: files.directory,
      env: { PATH: programPath, LANG: "C.UTF-8", ...processMark(files.directory) },
      detached: true,
      stdio: ["ignore", log.fd, log.fd],
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
