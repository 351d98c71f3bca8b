import { readdir, readFile } from "node:fs/promises";

export interface FoundProcess {
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
