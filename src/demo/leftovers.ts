import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import type { Workspace } from "./workspace.ts";

const WAIT_LIMIT_MS = 15_000;

/** What a run has left behind; empty when nothing. */
type Leftovers = readonly string[];

/** Processes that name this run's directory: machines, their helpers, FireRunner; without the one that may be there. */
export async function findProcesses(workspace: Workspace, butPid?: number): Promise<string[]> {
  const found = await processesNaming(workspace.directory);
  return found
    .filter(({ pid }) => pid !== butPid)
    .map(({ pid, command }) => `process ${pid}: ${command.slice(0, 100)}`);
}

async function machineDirectories(workspace: Workspace): Promise<string[]> {
  const entries = await readdir(join(workspace.state, "machines"), { recursive: true }).catch(() => []);
  return entries.map((entry) => `${join(workspace.state, "machines", entry)}`);
}

/** Looks until nothing of any machine is left (process, socket, disk, directory), or the time is up. */
export async function findLeftovers(
  workspace: Workspace,
  daemonPid: number,
  clock: Clock,
): Promise<Leftovers> {
  const until = clock.now() + WAIT_LIMIT_MS;
  for (;;) {
    const left = [...(await findProcesses(workspace, daemonPid)), ...(await machineDirectories(workspace))];
    if (left.length === 0 || clock.now() > until) return left;
    await clock.sleep(200);
  }
}

/** Ends every process that names this run's directory. For a run that was broken off. */
export async function killRemaining(workspace: Workspace): Promise<void> {
  for (const { pid } of await processesNaming(workspace.directory)) kill(pid);
}

interface FoundProcess {
  readonly pid: number;
  readonly command: string;
}

/** Processes of this computer whose command line names `text`, such as a path that only one run uses. Not this one. */
export async function processesNaming(text: string): Promise<FoundProcess[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const all = await Promise.all(pids.filter((pid) => pid !== process.pid).map(readProcess));
  return all.filter((found) => found !== undefined).filter((found) => found.command.includes(text));
}

async function readProcess(pid: number): Promise<FoundProcess | undefined> {
  try {
    const command = (await readFile(`/proc/${pid}/cmdline`, "utf8")).replaceAll("\0", " ").trim();
    return command === "" ? undefined : { pid, command };
  } catch {
    // It ended meanwhile, or is another user's business.
    return undefined;
  }
}

/** Ends it at once. A process that is gone already is as good. */
export function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
