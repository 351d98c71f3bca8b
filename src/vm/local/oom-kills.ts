import { readFile } from "node:fs/promises";

/**
 * How many processes the kernel of this computer has killed for want of memory since it booted, whichever they were: whose they were
 * only its log says, which not everybody may read. Undefined where the kernel does not count them.
 */
export async function oomKills(vmstat = "/proc/vmstat"): Promise<number | undefined> {
  const text = await readFile(vmstat, "utf8").catch(() => "");
  const count = /^oom_kill (\d+)$/m.exec(text)?.[1];
  return count === undefined ? undefined : Number(count);
}
