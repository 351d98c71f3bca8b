/**
 * What a machine wrote last, fit to be shown in a job's trace: no control characters, no secrets, no half lines. It is
 * recorded before the machine may be destroyed and read again when GitLab is told, however often that is tried.
 */

import type { Clock } from "../base/clock.ts";
import { withDeadline } from "../base/deadline.ts";
import { plainText } from "../base/text.ts";
import { causeOf } from "../domain/job-end.ts";
import { hostKey } from "../domain/placement.ts";
import type { JobPayload } from "../gitlab/runner-api.ts";
import { maskSecrets } from "../gitlab/trace.ts";
import type { EventStore, Machine, Store } from "../store/store.ts";
import type { Fleet } from "../vm/driver.ts";
import { memoryKills, memoryLine, tellingLines } from "./console-lines.ts";
import { limitOf } from "./errors.ts";
import { readPayload } from "./payload.ts";

const READ_BYTES = 16_384;
const MOST_LINES = 20;
const MOST_COLUMNS = 240;
const READ_LIMIT_MS = 1_000;

export interface ConsoleTailDeps {
  readonly store: Pick<Store, "job" | "machine" | "payload" | "note" | "machineToken" | "events">;
  readonly fleet: Pick<Fleet, "hosts">;
  readonly clock: Clock;
}

/**
 * Reads the console of a job's machine and notes its end as `machine:console`. Returns the line that blames the guest's memory, if there
 * is one. Fails silently: it is only an aid.
 */
export async function recordConsoleTail(
  deps: ConsoleTailDeps,
  jobId: number,
  machineId: string | null,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { store } = deps;
  if (machineId === null) return undefined;
  try {
    const machine = await store.machine(machineId);
    if (!machine || machine.state === "gone") return undefined;
    const raw = await readConsole(deps, machine, signal);
    if (raw === undefined) return undefined;
    const payload = await readPayload(store, jobId);
    const text = consoleTail(raw, payload, store.machineToken(machineId).reveal());
    if (text) await store.note("machine:console", { jobId, machineId }, { text });
    return memoryLine(text.split("\n"));
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
}

/**
 * Notes how many processes the kernel of a machine killed for want of memory where its job's own script has failed: the script's log shows
 * that it failed, and not always why. Read before the machine is destroyed. Fails silently: it is only an aid.
 */
export async function recordMemoryKills(
  deps: ConsoleTailDeps,
  machine: Machine,
  signal: AbortSignal,
): Promise<void> {
  const { id: machineId, jobId } = machine;
  if (jobId === null) return;
  try {
    const job = await deps.store.job(jobId);
    if (job?.machineId !== machineId || job.result !== "failed" || causeOf(job) !== "script") return;
    const killed = memoryKills(((await readConsole(deps, machine, signal)) ?? "").split("\n"));
    if (killed === 0 || (await isNoted(deps.store, machineId))) return;
    await deps.store.note("machine:out-of-memory", { jobId, machineId }, { killed });
  } catch {
    signal.throwIfAborted();
  }
}

/** A machine that could not be destroyed is tried again, and again. */
async function isNoted(store: Pick<EventStore, "events">, machineId: string): Promise<boolean> {
  return (await store.events({ machineId })).some(({ kind }) => kind === "machine:out-of-memory");
}

/** The end of a machine's console; undefined when nothing shows it. */
async function readConsole(
  { fleet, clock }: ConsoleTailDeps,
  machine: Machine,
  signal: AbortSignal,
): Promise<string | undefined> {
  const driver = fleet.hosts().get(hostKey(machine));
  if (!driver) return undefined;
  const doing = `reading the console of ${machine.id}`;
  return await withDeadline(clock, limitOf(doing, READ_LIMIT_MS, signal), () =>
    driver.console(machine.id, READ_BYTES),
  );
}

/** The recorded last lines of a machine, or undefined. */
export async function recordedConsoleTail(
  store: Pick<EventStore, "events">,
  machineId: string,
): Promise<string | undefined> {
  const events = await store.events({ machineId });
  return events.findLast((event) => event.kind === "machine:console")?.detail.text;
}

export function consoleTail(raw: string, payload: JobPayload, machineToken: string): string {
  const whole = raw.length < READ_BYTES ? raw : raw.slice(raw.indexOf("\n") + 1);
  const masked = maskSecrets(plainText(whole), payload).replaceAll(machineToken, "[MASKED]");
  const lines = masked.split("\n").map((line) => line.trimEnd().slice(0, MOST_COLUMNS));
  return tellingLines(lines.filter((line) => line !== ""))
    .slice(-MOST_LINES)
    .join("\n");
}
