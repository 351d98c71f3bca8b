/**
 * A verdict on the whole of a status, for programs that watch: how bad it is, why, and figures beside it. What mends itself within a round
 * is no problem; what somebody has to look at is a warning, and what keeps jobs from being run is critical.
 */
import { oneLine } from "../base/text.ts";
import { formatDuration, MIB_BYTES, SECOND_MS } from "../base/units.ts";
import type { Status } from "./api.ts";
import { accessFaults, countsOf, hookFaults, hostsInUse } from "./status-facts.ts";

/** In the order of the exit codes that monitoring systems of Nagios' kind know. */
export const checkLevels = ["ok", "warning", "critical", "unknown"] as const;
type CheckLevel = (typeof checkLevels)[number];

interface CheckProblem {
  readonly level: "warning" | "critical";
  readonly text: string;
}

/** One figure with the limits at which it is a warning or critical, and the least and most that it can be. */
interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit?: "s" | "B" | undefined;
  readonly warning?: number | undefined;
  readonly critical?: number | undefined;
  readonly most?: number | undefined;
}

export interface Verdict {
  readonly level: CheckLevel;
  /** What is going on, in a few words. */
  readonly summary: string;
  /** The worst first. */
  readonly problems: readonly CheckProblem[];
  readonly figures: readonly Figure[];
}

export interface CheckLimits {
  /** How long the oldest job may wait, here or in GitLab. */
  readonly warningWaitMs: number;
  readonly criticalWaitMs: number;
}

export function checkStatus(status: Status, now: number, limits: CheckLimits): Verdict {
  const waitMs = oldestWaitMs(status, now);
  const problems = [
    ...ofGitLab(status),
    ...ofPools(status),
    ...ofHosts(status),
    ...ofWaiting(status, waitMs, limits),
    ...ofTheRest(status),
  ];
  const critical = problems.filter(({ level }) => level === "critical");
  const warnings = problems.filter(({ level }) => level === "warning");
  return {
    level: critical.length > 0 ? "critical" : warnings.length > 0 ? "warning" : "ok",
    summary: summaryOf(status),
    problems: withoutRepeats([...critical, ...warnings]),
    figures: figuresOf(status, waitMs, limits),
  };
}

/** A verdict where there is no status to be had. */
export function checkFailed(level: "critical" | "unknown", summary: string): Verdict {
  return { level, summary, problems: [], figures: [] };
}

const MOST_PROBLEMS = 3;
const MOST_CHARACTERS = 400;

/** One line: `FIRERUNNER WARNING - … | running=3;;;0;8 …`. */
export function checkLine({ level, summary, problems, figures }: Verdict): string {
  const shown = problems.slice(0, MOST_PROBLEMS).map(({ text }) => text);
  const more = problems.length - shown.length;
  const words = [...shown, ...(more > 0 ? [`${more} more (firerunner status)`] : []), summary].join("; ");
  // What stands behind a bar are figures to whoever reads the line.
  const text = oneLine(words).replaceAll("|", "/").slice(0, MOST_CHARACTERS);
  const data = figures.map(figureText).join(" ");
  return `FIRERUNNER ${level.toUpperCase()} - ${text}${data === "" ? "" : ` | ${data}`}`;
}

function figureText({ name, value, unit, warning, critical, most }: Figure): string {
  const parts = [`${value}${unit ?? ""}`, warning ?? "", critical ?? "", 0, most ?? ""];
  return `${name}=${parts.join(";").replace(/;+$/, "")}`;
}

function ofGitLab({ gitlabProblem }: Status): CheckProblem[] {
  return gitlabProblem === null ? [] : [{ level: "critical", text: gitlabProblem }];
}

function ofPools({ pools, webhook }: Status): CheckProblem[] {
  if (pools.length === 0 && webhook === null) return [warn("no pool is configured")];
  const canNone = pools.length > 0 && pools.every(({ ok }) => !ok);
  return pools.flatMap(({ name, ok, problems, tokenNote, room }) => {
    const reasons = problems.map(({ problem }) => problem).join(", ") || "it is not ready";
    const isFull = ok && room.machines === 0 && room.note !== null;
    return [
      ...(ok ? [] : [{ level: canNone ? "critical" : "warning", text: `pool ${name}: ${reasons}` } as const]),
      ...(tokenNote ? [warn(`pool ${name}: ${tokenNote.problem}`)] : []),
      ...(isFull ? [warn(`pool ${name}: ${room.note}`)] : []),
    ];
  });
}

function ofHosts(status: Status): CheckProblem[] {
  const own = hostsInUse(status);
  const level = own.length > 0 && own.every(({ problem }) => problem !== null) ? "critical" : "warning";
  return own.flatMap(({ host, problem }) =>
    problem === null ? [] : [{ level, text: `host ${host}: ${problem}` } as const],
  );
}

function ofWaiting(
  { webhook }: Status,
  waitMs: number,
  { warningWaitMs, criticalWaitMs }: CheckLimits,
): CheckProblem[] {
  const text = `a job has waited for ${formatDuration(waitMs)}`;
  const left = webhook?.leftAlone ?? 0;
  return [
    ...(waitMs >= criticalWaitMs ? [{ level: "critical", text } as const] : []),
    ...(waitMs >= warningWaitMs && waitMs < criticalWaitMs ? [warn(text)] : []),
    ...(left > 0
      ? [warn(`${left} waiting ${left === 1 ? "job asks" : "jobs ask"} for a machine that cannot be had`)]
      : []),
  ];
}

function ofTheRest({ mode, troubles, publicServer, webhook }: Status): CheckProblem[] {
  return [
    ...(mode === "run" ? [] : ["it takes no new jobs: it is draining or ending"]),
    ...(webhook ? [...hookFaults(webhook), ...accessFaults(webhook)] : []),
    ...troubles,
    ...(publicServer?.problems ?? []),
  ].map(warn);
}

function warn(text: string): CheckProblem {
  return { level: "warning", text };
}

/** Several parts of a status may tell of the same fault in the same words. */
function withoutRepeats(problems: readonly CheckProblem[]): CheckProblem[] {
  return problems.filter(
    ({ text }, at) =>
      !problems.slice(0, at).some((earlier) => earlier.text.includes(text) || text.includes(earlier.text)),
  );
}

function oldestWaitMs({ unfinished, webhook }: Status, now: number): number {
  const since = [
    ...unfinished.flatMap(({ state, claimedAt }) =>
      state === "claimed" || state === "starting" ? claimedAt : [],
    ),
    ...(webhook?.waiting ?? []).map(({ createdAt }) => createdAt),
  ];
  return since.reduce((longest, at) => Math.max(longest, now - at), 0);
}

function summaryOf(status: Status): string {
  const { running, starting, waiting, poolsReady } = countsOf(status);
  return `${running} running, ${starting} starting, ${waiting} waiting, ${poolsReady} of ${status.pools.length} pools ready`;
}

function figuresOf(status: Status, waitMs: number, { warningWaitMs, criticalWaitMs }: CheckLimits): Figure[] {
  const { running, starting, waiting, poolsReady } = countsOf(status);
  const { hosts, liveMachines, pools, webhook } = status;
  const known = hosts.filter(({ capacity }) => capacity !== null);
  const sum = (of: (host: Status["hosts"][number]) => number) =>
    known.reduce((total, host) => total + of(host), 0);
  return [
    { name: "running", value: running },
    { name: "starting", value: starting },
    { name: "waiting", value: waiting },
    {
      ...{ name: "oldest_wait", unit: "s", value: Math.round(waitMs / SECOND_MS) },
      ...{ warning: warningWaitMs / SECOND_MS, critical: criticalWaitMs / SECOND_MS },
    },
    { name: "unservable", value: webhook?.leftAlone ?? 0 },
    { name: "pools_ready", value: poolsReady, most: pools.length },
    {
      name: "hosts_ready",
      value: hosts.filter(({ problem }) => problem === null).length,
      most: hosts.length,
    },
    { name: "machines", value: liveMachines },
    {
      name: "vcpus",
      value: sum(({ taken }) => taken.cpus),
      most: sum(({ capacity }) => capacity?.cpus ?? 0),
    },
    {
      ...{ name: "memory", unit: "B", value: sum(({ taken }) => taken.memoryMib) * MIB_BYTES },
      most: sum(({ capacity }) => capacity?.memoryMib ?? 0) * MIB_BYTES,
    },
  ];
}
