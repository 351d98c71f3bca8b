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

/** A machine that could not be destroyed is tried again, and is not to be told of twice. */
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

/** The kernel's words at every boot, which `quiet` lets through because they are errors elsewhere. */
const harmless: readonly RegExp[] = [/PCI: Fatal: No config space access function found/];

/** Lines of the official runner and of the stand-in; `job=… runner=…` ends nearly all that it writes while it has a job. */
const chatter: readonly RegExp[] = [
  /\bjob=\d+\b.*\brunner=/,
  /\bbuilds=\d+\b/,
  /^(Runtime platform|Checking for jobs|Appending trace to coordinator|Updating job|Submitting job to coordinator)\b/,
  /^(Job succeeded|WARNING: Job failed|Added job to processing list|Removed job from processing list)\b/,
  /^(Starting runner|Running in (system|user)-mode|Created missing unique system ID|Using executor|Executing )/,
  /^(Version: |Asking for a job|Job \d+: |Downloading artifacts|Uploading artifacts)/,
];

/** What the kernel prints before every line of its own: the time since the boot. */
const kernelTime = /^\[ *\d+\.\d+\](\[ *T\d+\])? /;

/**
 * The lines that are worth showing to somebody who asks why a machine ended, as they were. Every boot prints some that look like faults,
 * and the runner writes about itself: what it says of the job stands in the job's log already.
 */
export function tellingLines(lines: readonly string[]): string[] {
  return lines.filter((line) => {
    const words = line.replace(kernelTime, "");
    return ![...harmless, ...chatter].some((pattern) => pattern.test(words));
  });
}

/** Kills of other processes are the job's own affair: its script sees them, and the runner reports how that ended. */
const memoryEnds: readonly RegExp[] = [
  /Kernel panic - not syncing: (Out of memory|System is deadlocked on memory)/,
  /Out of memory: Killed process \d+ \(gitlab-runner\)/,
];

/** The line that says that the guest ended for want of memory; undefined when none does. */
export function memoryLine(lines: readonly string[]): string | undefined {
  return lines.findLast((line) => memoryEnds.some((pattern) => pattern.test(line)))?.replace(kernelTime, "");
}

/** How many processes the guest's kernel says that it killed for want of memory. */
export function memoryKills(lines: readonly string[]): number {
  return lines.filter((line) => /^Out of memory: Killed process \d+ /.test(line.replace(kernelTime, "")))
    .length;
}
