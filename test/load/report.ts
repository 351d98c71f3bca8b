/** What a run has to say: as JSON, as a table for a terminal, as a picture. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import { quantile } from "../../bench/core/statistics.ts";
import { formatTable } from "../../src/base/table.ts";
import { wrapped } from "../../src/base/text.ts";
import { formatDuration } from "../../src/base/units.ts";
import type { Holdings } from "./holdings.ts";
import type { Sample } from "./manager.ts";
import { drawPicture, type Mark, type Panel } from "./picture.ts";
import { isGood, type Verdict } from "./verdict.ts";
import type { JobCourse, Moment, Watch } from "./watch.ts";

const WIDTH = 80;
const MOST_TOLD = 12;

interface Latency {
  readonly name: string;
  readonly n: number;
  readonly p50Ms: number;
  readonly p95Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export interface Part {
  readonly title: string;
  readonly durationMs: number;
  readonly jobs: Readonly<Record<"made" | "success" | "failed" | "canceled" | "open", number>>;
  /** Of the jobs that failed, by GitLab's reasons. */
  readonly failures: Readonly<Record<string, number>>;
  readonly jobsPerSecond: number;
  readonly mostAtOnce: number;
  readonly latencies: readonly Latency[];
  readonly verdict: Verdict;
  /** What GitLab noticed that a well-behaved client never does, by its rule. */
  readonly violations: Readonly<Record<string, number>>;
  readonly manager: Holdings;
}

export interface Report {
  readonly what: "load" | "chaos";
  readonly at: string;
  readonly environment: readonly string[];
  readonly options: Readonly<Record<string, number | string | boolean>>;
  readonly parts: readonly Part[];
  /** What was done to it, in order. */
  readonly faults: readonly { readonly atMs: number; readonly forMs: number; readonly what: string }[];
  /** Faults that could not be had here, with the reason. */
  readonly leftOut: readonly string[];
  /** What is not as it should be; nothing when all is well. */
  readonly problems: readonly string[];
}

function latencyOf(name: string, valuesMs: readonly number[]): Latency {
  const at = (share: number) => (valuesMs.length === 0 ? 0 : Math.round(quantile(valuesMs, share)));
  return { name, n: valuesMs.length, p50Ms: at(0.5), p95Ms: at(0.95), p99Ms: at(0.99), maxMs: at(1) };
}

type TimeOf = (course: JobCourse) => number | undefined;
const claimed: TimeOf = ({ job }) => job.startedAt;

/** How long a step took those jobs that have come to its end. */
function stepsOf(courses: ReadonlyMap<number, JobCourse>, from: TimeOf, to: TimeOf) {
  return [...courses.values()].flatMap((course) => {
    const [startedAt, endedAt] = [from(course), to(course)];
    if (startedAt === undefined || endedAt === undefined) return [];
    return [{ endedAt, tookMs: Math.max(0, endedAt - startedAt) }];
  });
}

/** Jobs in numbers, and how long each step took those that got so far. */
export function partOf(
  title: string,
  about: {
    readonly gitlab: StandInGitLab;
    readonly watch: Watch;
    /** When a machine was given the job, by the job's id. */
    readonly givenAt: ReadonlyMap<number, number>;
    readonly verdict: Verdict;
    readonly manager: Holdings;
    readonly durationMs: number;
  },
): Part {
  const { gitlab, watch, givenAt, durationMs } = about;
  const jobs = gitlab.jobs.all();
  const between = (name: string, from: TimeOf, to: TimeOf) =>
    latencyOf(
      name,
      stepsOf(watch.courses, from, to).map(({ tookMs }) => tookMs),
    );
  const statusCount = (status: string) => jobs.filter((job) => job.status === status).length;
  const [success, failed, canceled] = [
    statusCount("success"),
    statusCount("failed"),
    statusCount("canceled"),
  ];
  const ended = success + failed + canceled;
  return {
    title,
    durationMs,
    jobs: { made: jobs.length, success, failed, canceled, open: jobs.length - ended },
    failures: countBy(jobs.filter(({ status }) => status === "failed").map((job) => job.failureReason ?? "")),
    jobsPerSecond: ended / (durationMs / 1_000),
    mostAtOnce: Math.max(0, ...watch.moments.map(({ running }) => running)),
    latencies: [
      between("webhook sent → claimed", ({ hookedAt }) => hookedAt, claimed),
      between("claimed → machine asks for its job", claimed, ({ job }) => givenAt.get(job.id)),
      between("claimed → first line in GitLab", claimed, ({ firstLineAt }) => firstLineAt),
      between(
        "end in GitLab → machine gone",
        ({ job }) => job.finishedAt,
        ({ machineGoneAt }) => machineGoneAt,
      ),
    ],
    verdict: about.verdict,
    violations: countBy(gitlab.violations.map(({ rule }) => rule)),
    manager: about.manager,
  };
}

function countBy(words: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const word of words) counts[word] = (counts[word] ?? 0) + 1;
  return counts;
}

/** Open files that one rest may have more than another: connections that are kept for a while. */
const SPARE_FILES = 12;

/** `tolerated`: rules that a client breaks when its network or GitLab itself fails it. */
export function problemsOf(part: Part, tolerated: ReadonlySet<string> = new Set()): string[] {
  const { verdict, manager, jobs, title } = part;
  const found: string[] = [];
  const { lost, doubled, left, untrue } = verdict;
  for (const [name, list] of Object.entries({ lost, doubled, left, untrue }))
    if (list.length > 0) found.push(`${title}: ${list.length} ${name}: ${shortened(list)}`);
  if (jobs.made === 0) found.push(`${title}: there was no job`);
  for (const { name, grows } of manager.courses)
    if (grows) found.push(`${title}: the manager's ${name} grows steadily`);
  for (const [rule, n] of Object.entries(part.violations))
    if (!tolerated.has(rule)) found.push(`${title}: GitLab noticed ${n} × ${rule}`);
  const { rest } = manager;
  const extra = rest ? rest.after.openFiles - rest.before.openFiles : 0;
  if (extra > SPARE_FILES) found.push(`${title}: ${extra} more open files at rest than before the first job`);
  if (manager.crashes.length > 0)
    found.push(`${title}: the manager ended by itself: ${shortened(manager.crashes)}`);
  if (isGood(verdict) && jobs.open > verdict.unheard.length)
    found.push(`${title}: ${jobs.open} jobs have no end`);
  return found;
}

function shortened(list: readonly string[]): string {
  const more = list.length > MOST_TOLD ? ` and ${list.length - MOST_TOLD} more` : "";
  return list.slice(0, MOST_TOLD).join("; ") + more;
}

/** Lines of at most 80 columns. */
function textOf(report: Report): string {
  const lines = [`FireRunner under ${report.what}, ${report.at}`, ...report.environment.flatMap(sentence)];
  for (const part of report.parts) lines.push("", ...linesOf(part));
  if (report.leftOut.length > 0) lines.push("", "left out", ...report.leftOut.flatMap(sentence));
  lines.push("", ...verdictLines(report));
  return `${lines.join("\n")}\n`;
}

function linesOf(part: Part): string[] {
  const { jobs, verdict, manager } = part;
  const ms = (value: number) => formatDuration(value);
  const failures = Object.entries(part.failures).map(([reason, n]) => `${n} × ${reason}`);
  return [
    `${part.title}: ${formatDuration(part.durationMs)}, ${part.jobsPerSecond.toFixed(2)} jobs/s, at most ${part.mostAtOnce} at once`,
    ...sentence(
      `jobs ${jobs.made}: success ${jobs.success}, failed ${jobs.failed}${failures.length > 0 ? ` (${failures.join(", ")})` : ""}, canceled ${jobs.canceled}, without an end ${jobs.open}`,
    ),
    "",
    ...formatTable(
      [{ title: "latency" }, ...["n", "p50", "p95", "p99", "max"].map((title) => ({ title }))],
      part.latencies.map((each) => [
        each.name,
        String(each.n),
        ...[each.p50Ms, each.p95Ms, each.p99Ms, each.maxMs].map(ms),
      ]),
      WIDTH,
    ),
    "",
    ...formatTable(
      [{ title: "manager" }, ...["start", "middle", "end", "grows"].map((title) => ({ title }))],
      manager.courses.map(({ name, unit, start, middle, end, grows }) => [
        unit === "" ? name : `${name}, ${unit}`,
        ...[start, middle, end].map((value) => value.toFixed(unit === "" ? 0 : 1)),
        grows === undefined ? "too short to tell" : grows ? "YES" : "no",
      ]),
      WIDTH,
    ),
    ...(manager.rest
      ? [
          `open files at rest: ${manager.rest.before.openFiles} before the first job, ${manager.rest.after.openFiles} after the last`,
        ]
      : []),
    ...(manager.starts > 1
      ? [
          `started ${manager.starts} times; ${manager.failedStarts.length} starts came to nothing and were repeated`,
        ]
      : []),
    "",
    ...formatTable(
      ["lost", "doubled", "left", "untrue", "unheard"].map((title) => ({ title })),
      [
        [verdict.lost, verdict.doubled, verdict.left, verdict.untrue, verdict.unheard].map((list) =>
          String(list.length),
        ),
      ],
      WIDTH,
    ),
    ...verdict.unheard.flatMap(sentence),
    ...Object.entries(part.violations).map(([rule, n]) => `GitLab noticed: ${n} × ${rule}`),
  ];
}

function verdictLines({ problems }: Report): string[] {
  if (problems.length === 0) return ["GOOD: every job had its end, once, and nothing is left"];
  return ["NOT GOOD", ...problems.flatMap(sentence)];
}

function sentence(text: string): string[] {
  return wrapped(`  ${text}`, WIDTH, 4);
}

export interface Drawn {
  readonly startedAt: number;
  readonly moments: readonly Moment[];
  readonly courses: ReadonlyMap<number, JobCourse>;
  readonly samples: readonly Sample[];
}

function pictureOf(report: Report, { startedAt, moments, courses, samples }: Drawn): string {
  const since = (at: number) => at - startedAt;
  const endAt = Math.max(startedAt, ...moments.map(({ at }) => at), ...samples.map(({ at }) => at));
  const series = (of: (sample: Sample) => number) =>
    samples.map((sample) => [since(sample.at), of(sample)] as const);
  const latencies = (from: TimeOf, to: TimeOf) =>
    stepsOf(courses, from, to).map(({ endedAt, tookMs }) => [since(endedAt), tookMs / 1_000] as const);
  const panels: Panel[] = [
    {
      title: "jobs",
      lines: [
        { name: "running", colour: "a", points: moments.map(({ at, running }) => [since(at), running]) },
        { name: "waiting", colour: "b", points: moments.map(({ at, pending }) => [since(at), pending]) },
      ],
    },
    {
      title: "seconds",
      lines: [
        {
          ...{ name: "webhook → claimed", colour: "a", dots: true },
          points: latencies(({ hookedAt }) => hookedAt, claimed),
        },
        {
          ...{ name: "claimed → first line", colour: "b", dots: true },
          points: latencies(claimed, ({ firstLineAt }) => firstLineAt),
        },
      ],
    },
    {
      title: "manager, MiB",
      lines: [
        { name: "resident", colour: "a", points: series(({ rssMib }) => rssMib) },
        { name: "held by JavaScript", colour: "b", points: series(({ heldMib }) => heldMib) },
        { name: "disk", colour: "c", points: series(({ diskMib }) => diskMib) },
      ],
    },
    {
      title: "manager, open files",
      lines: [{ name: "open files", colour: "a", points: series(({ openFiles }) => openFiles) }],
    },
  ];
  const [part] = report.parts;
  const verdict = part?.verdict;
  const marks: Mark[] = report.faults.map(({ atMs, forMs, what }) => ({
    name: what,
    fromMs: atMs,
    toMs: atMs + forMs,
  }));
  return drawPicture({
    title: `FireRunner under ${report.what}`,
    subtitle: `${part?.jobs.made ?? 0} jobs, at most ${part?.mostAtOnce ?? 0} at once; lost ${verdict?.lost.length}, doubled ${verdict?.doubled.length}, left ${verdict?.left.length}`,
    panels,
    marks,
    durationMs: endAt - startedAt,
  });
}

/** Writes `NAME.json`, `NAME.txt` and `NAME.svg`. Answers the text. */
export async function writeReport(directory: string, report: Report, drawn: Drawn): Promise<string> {
  await mkdir(directory, { recursive: true });
  const at = (ending: string) => join(directory, `${report.what}.${ending}`);
  const text = textOf(report);
  await writeFile(at("json"), `${JSON.stringify({ ...report, samples: drawn.samples }, undefined, 2)}\n`);
  await writeFile(at("txt"), text);
  await writeFile(at("svg"), pictureOf(report, drawn));
  return text;
}
