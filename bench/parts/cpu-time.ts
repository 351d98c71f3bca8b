import { readFile } from "node:fs/promises";

/** Linux counts in hundredths of a second here, whatever its own clock does. */
const TICK_MS = 10;

/** CPU time that a process has used, its threads' together. */
export async function cpuTimeMs(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8");
  // The name, in brackets, may hold anything.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}
