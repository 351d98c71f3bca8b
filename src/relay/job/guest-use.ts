import { peaksOf } from "../../domain/usage.ts";
import type { JobStore, MachineStore } from "../../store/store.ts";
import { Refusal } from "../errors.ts";
import { type Exchange, reply } from "../gateway/exchange.ts";

const told = /^[a-z_]+=(\d{1,9})$/;

/**
 * `POST /firerunner/use?available_mib=…&disk_mib=…`: how much of its machine a guest has used. It speaks for its own machine alone, by the way it came;
 * what it says is held to the machine's size and written only when it has grown by a part of that, so that one that lies costs little and
 * only spoils its own figures. Throws Refusal 400.
 */
export async function noteUse(
  store: JobStore & MachineStore,
  { guest, query, response }: Exchange,
): Promise<void> {
  const use = { availableMib: numberOf(query, "available_mib"), diskMib: numberOf(query, "disk_mib") };
  const machine = await store.machine(guest.machineId);
  if (machine && machine.jobId !== null) {
    const { memoryMib, diskMib } = peaksOf(machine.size, use);
    const peaks = {
      memoryMib: larger(guest.peaks.memoryMib, memoryMib),
      diskMib: larger(guest.peaks.diskMib, diskMib),
    };
    const isNews = peaks.memoryMib !== guest.peaks.memoryMib || peaks.diskMib !== guest.peaks.diskMib;
    if (isNews) await store.notePeaks(machine.jobId, machine.id, peaks);
    guest.peaks = peaks;
  }
  reply(response, 204, {});
}

function larger(before: number | undefined, now: number | undefined): number | undefined {
  if (now === undefined || before === undefined) return now ?? before;
  return Math.max(before, now);
}

/** Undefined where nothing is said. */
function numberOf(query: string, name: string): number | undefined {
  const part = query
    .slice(1)
    .split("&")
    .find((each) => each.startsWith(`${name}=`));
  if (part === undefined) return undefined;
  const digits = told.exec(part)?.[1];
  if (digits === undefined) throw new Refusal(400, `400 Bad Request - ${name} is no number of MiB`);
  return Number(digits);
}
