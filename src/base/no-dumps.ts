import { writeFile } from "node:fs/promises";

/**
 * A dump of this program would hold tokens and payloads. From now on one holds no memory, wherever the system sends it, and so it is
 * for every process that is started from here. Where there is no such switch (`bin/firerunner` sets a limit besides) nothing happens.
 */
export async function keepMemoryOutOfDumps(): Promise<void> {
  await writeFile("/proc/self/coredump_filter", "0").catch(() => {});
}
