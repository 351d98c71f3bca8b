import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import { kill, processesNaming } from "./processes.ts";
import type { Workspace } from "./workspace.ts";

const PATIENCE_MS = 15_000;

/** What a run has left behind, in words; empty when nothing. */
export type Leftovers = readonly string[];

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

/** Looks until nothing of any machine is left (process, socket, disk, directory), or patience is over. */
export async function findLeftovers(
  workspace: Workspace,
  daemonPid: number,
  clock: Clock,
): Promise<Leftovers> {
  const until = clock.now() + PATIENCE_MS;
  for (;;) {
    const left = [...(await findProcesses(workspace, daemonPid)), ...(await machineDirectories(workspace))];
    if (left.length === 0 || clock.now() > until) return left;
    await clock.sleep(200);
  }
}

/** Ends every process that names this run's directory. For a run that was broken off. */
export async function sweep(workspace: Workspace): Promise<void> {
  for (const { pid } of await processesNaming(workspace.directory)) kill(pid);
}
