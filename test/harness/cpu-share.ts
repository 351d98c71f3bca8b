import { readFileSync } from "node:fs";

const TICKS_PER_S = 100;

/** What a process with all its threads has used of CPUs, in seconds. */
function usedBy(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_S;
}

/** Of all CPUs: what was used, stolen by the host included, and what there was. */
function all(): { readonly busy: number; readonly total: number } {
  const [, ...ticks] = (readFileSync("/proc/stat", "utf8").split("\n")[0] ?? "").trim().split(/\s+/);
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0] =
    ticks.map(Number);
  const busy = user + nice + system + irq + softirq + steal;
  return { busy: busy / TICKS_PER_S, total: (busy + idle + iowait) / TICKS_PER_S };
}

/**
 * Begins to watch who uses this computer's CPUs; the function given back tells which share others than this process and `pids` had.
 * Where that is large, times by the wall clock tell of them.
 */
export function watchOthersCpu(pids: readonly number[]): () => number {
  const ours = () => [process.pid, ...pids].reduce((sum, pid) => sum + usedBy(pid), 0);
  const [allBefore, oursBefore] = [all(), ours()];
  return () => {
    const { busy, total } = all();
    return (busy - allBefore.busy - (ours() - oursBefore)) / (total - allBefore.total);
  };
}
