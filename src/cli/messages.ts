/** How times, sizes, states and findings are put into words, the same in all commands. */

import { systemClock } from "../base/clock.ts";
import { oneLine, plainText } from "../base/text.ts";
import { formatDuration, formatMib } from "../base/units.ts";
import type { HostStatus, JobView, MachineView, PoolStatus } from "../views/api.ts";
import type { Output } from "./output.ts";

/** `14:03:07`, with the date when it is not today. */
export function clockTime(at: number, now: number = systemClock.now()): string {
  const [date, time] = [isoDay(at), new Date(at).toTimeString().slice(0, 8)];
  return date === isoDay(now) ? time : `${date} ${time}`;
}

function isoDay(at: number): string {
  const date = new Date(at);
  const two = (value: number) => String(value).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

export function ago(at: number, now: number = systemClock.now()): string {
  return `${formatDuration(Math.max(0, now - at))} ago`;
}

export function formatSize({ cpus, memoryMib }: { cpus: number; memoryMib: number }): string {
  return `${cpus} CPU, ${formatMib(memoryMib)}`;
}

/** `1 machine`, `2 machines`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** What the running FireRunner says that it has done. */
export function printMessages(output: Output, messages: readonly string[]): void {
  output.result({ messages }, () => {
    for (const message of messages) output.line(message);
  });
}

/** The state, or for an ended job how it ended. */
export function stateText({ state, result, outcome, fetching }: JobView): string {
  if (state === "finished") return outcome ?? result ?? "ended";
  return fetching ? "fetching" : state;
}

/** The same, coloured. */
export function stateWord(output: Output, job: JobView): string {
  const { state, result } = job;
  const ended = result === "success" ? "green" : result === "canceled" ? "yellow" : "red";
  const colour = state === "finished" ? ended : state === "failing" ? "red" : "cyan";
  return output.paint(colour, stateText(job));
}

export function hostStateText({ drained, problem }: Pick<HostStatus, "drained" | "problem">): string {
  if (problem !== null) return "avoided";
  return drained ? "drained" : "ready";
}

/**
 * What is taken of what a host has, as cells of a table: machines, CPUs, memory and disk. Disks are promised whole: what is taken may be more
 * than what has been written.
 */
export function takenCells({ taken, capacity }: Pick<HostStatus, "taken" | "capacity">): string[] {
  const of = (used: number, all: number | undefined) => `${used}/${all ?? "?"}`;
  return [
    of(taken.machines, capacity?.machines),
    of(taken.cpus, capacity?.cpus),
    `${formatMib(taken.memoryMib)}/${capacity ? formatMib(capacity.memoryMib) : "?"}`,
    `${formatMib(taken.diskMib)}/${capacity ? diskText(capacity) : "?"}`,
  ];
}

function diskText({ diskMib }: NonNullable<HostStatus["capacity"]>): string {
  return diskMib === null ? "unlimited" : formatMib(diskMib);
}

/** Whether a pool's jobs are asked for. What is wrong with its token is told with what to do, elsewhere. */
export function askingWords({ ok, tokenNote, claiming }: PoolStatus): string {
  if (!ok) return "not asked";
  return tokenNote ? "its token is not verified" : claiming;
}

/** One line, short enough for a table, without control characters. */
export function cellText(text: string, limit = 40): string {
  const line = oneLine(text);
  return line.length > limit ? `${line.slice(0, limit - 1)}…` : line;
}

/** How long a job has been at it, or took. */
export function jobTime(job: JobView, now: number = systemClock.now()): string {
  return formatDuration(Math.max(0, (job.finishedAt ?? now) - job.claimedAt));
}

export function machineTime(machine: MachineView, now: number = systemClock.now()): string {
  return formatDuration(Math.max(0, (machine.goneAt ?? now) - machine.createdAt));
}

const MARK_WIDTH = 6;
const NAME_WIDTH = 24;

const marks = {
  ok: ["green", "ok  "],
  skip: ["yellow", "skip"],
  warn: ["yellow", "warn"],
  fail: ["red", "FAIL"],
} as const;

interface NamedFinding {
  readonly name: string;
  readonly level: keyof typeof marks;
  readonly message: string;
  readonly hint?: string | undefined;
}

/** What was found, beside its name, and below it what to do. */
export function printFinding(output: Output, { name, level, message, hint }: NamedFinding): void {
  const [colour, word] = marks[level];
  const line = `${output.paint(colour, word)}  ${name.padEnd(NAME_WIDTH)}  ${plainText(message)}`;
  output.line(line, [MARK_WIDTH + NAME_WIDTH + 2, MARK_WIDTH]);
  if (hint !== undefined) output.line(`${" ".repeat(MARK_WIDTH)}→ ${plainText(hint)}`);
}
