/**
 * What the demo says at its end: a row for each job and the result in a word. Of a pipeline of the user's own nothing is expected: before it
 * runs it is told what of the file is left out, and at the end there is a mark for each job and one sentence.
 */
import type { Violation } from "@firerunner/gitlab-stand-in/faults";
import { isForgiven, type Job, type JobStatus } from "@firerunner/gitlab-stand-in/model";
import { type Column, formatTable } from "../base/table.ts";
import { oneLine } from "../base/text.ts";
import type { Notice, PipelineDefinition } from "../ci/definition.ts";
import { describeEnd } from "./observer.ts";
import type { Expectation } from "./sample-project.ts";
import type { Screen } from "./screen.ts";
import { type Steps, span, type Timeline } from "./timeline.ts";

interface JobOutcome {
  readonly name: string;
  readonly jobId: number;
  readonly expected: string | null;
  readonly result: string;
  /** What became of a job of which nothing was expected. */
  readonly mark: string | null;
  readonly asExpected: boolean;
  readonly machine: string | null;
  /** Milliseconds from one phase to the next; null where one never came. */
  readonly queuedMs: number | null;
  readonly bootMs: number | null;
  readonly prepareMs: number | null;
  readonly runMs: number | null;
  /** From the cancel or the kill to the end in GitLab. */
  readonly reactionMs: number | null;
}

export interface DemoResult {
  readonly ok: boolean;
  /** On the pipeline of a user's own repository. */
  readonly sentence: string | null;
  readonly jobs: readonly JobOutcome[];
  readonly leftovers: readonly string[];
  readonly violations: readonly Violation[];
}

interface SummaryInput {
  readonly jobs: readonly Job[];
  readonly timeline: Timeline;
  readonly steps: Steps;
  readonly expectations: Readonly<Record<string, Expectation>>;
  readonly leftovers: readonly string[];
  readonly violations: readonly Violation[];
  /** Of a user's own pipeline; what counts when nothing is expected of its jobs. */
  readonly pipelineOutcome: PipelineResult | undefined;
}

export function summarize(options: SummaryInput): DemoResult {
  const { leftovers, violations, pipelineOutcome } = options;
  const jobs = options.jobs.map((job) => outcomeOf(job, options));
  const jobsAreRight = pipelineOutcome?.ok ?? jobs.every((job) => job.asExpected);
  return {
    ok: jobsAreRight && leftovers.length === 0 && violations.length === 0,
    sentence: pipelineOutcome?.sentence ?? null,
    jobs,
    leftovers,
    violations,
  };
}

function outcomeOf(job: Job, { timeline, steps, expectations }: SummaryInput): JobOutcome {
  const { queuedAt, claimedAt, bootedAt, runningAt, endedAt } = timeline.times(job);
  const expected = expectations[job.definition.name];
  const { mark, text } = markOf(job);
  return {
    name: job.definition.name,
    jobId: job.id,
    expected: expected ? [expected.status, expected.failureReason].filter(Boolean).join(", ") : null,
    result: text ?? describeEnd(job),
    mark: expected ? null : mark,
    asExpected: expected === undefined || isAsExpected(job, expected),
    machine: timeline.machineOf(job) ?? null,
    queuedMs: between(queuedAt, claimedAt),
    bootMs: between(claimedAt, bootedAt),
    prepareMs: between(bootedAt, runningAt),
    runMs: between(runningAt, endedAt),
    reactionMs: between(steps.doneAt(job), endedAt),
  };
}

function isAsExpected(job: Job, expected: Expectation): boolean {
  const sameReason = expected.failureReason === undefined || job.failureReason === expected.failureReason;
  return job.status === expected.status && sameReason && job.traceCheck?.matches !== false;
}

function between(from: number | undefined, to: number | undefined): number | null {
  return from === undefined || to === undefined ? null : Math.max(0, to - from);
}

/** The summary for people. */
export function printSummary(screen: Screen, result: DemoResult): void {
  const mark = (good: boolean) => (good ? screen.good("✓") : screen.bad("✗"));
  const own = (sign: string) => (sign === "✓" ? screen.good(sign) : sign === "✗" ? screen.bad(sign) : sign);
  const text = (ms: number | null) => span(0, ms ?? undefined);
  const rows = result.jobs.map((job) => [
    job.mark === null ? mark(job.asExpected) : own(job.mark),
    oneLine(job.name),
    ...describeResult(job),
    text(job.queuedMs),
    text(job.bootMs),
    text(job.prepareMs),
    text(job.runMs),
    text(job.reactionMs),
  ]);
  screen.print();
  if (rows.length > 0) {
    for (const line of formatTable(...withoutEmptyColumns(screen, rows), screen.width)) screen.exact(line);
    screen.print();
  }
  if (result.sentence !== null) screen.print(`${mark(result.ok)} ${result.sentence}`);
  if (result.leftovers.length === 0)
    screen.print(`${mark(true)} nothing is left of any machine: no process, socket, disk or directory`);
  for (const left of result.leftovers) screen.print(`${mark(false)} left behind: ${left}`);
  if (result.violations.length === 0)
    screen.print(`${mark(true)} the stand-in GitLab saw no request against its rules`);
  for (const { rule, detail, jobId } of result.violations)
    screen.print(`${mark(false)} against GitLab's rules (${rule}), job ${jobId ?? "–"}: ${detail}`);
}

/** All of them fit 80 columns, the sentences below their rows. */
const columns: readonly Column[] = [
  { title: "" },
  { title: "job", cut: 12 },
  { title: "in GitLab", cut: 14 },
  { title: "how", below: true },
  { title: "queued" },
  { title: "boot" },
  { title: "prepare" },
  { title: "script" },
  { title: "reaction" },
];

/** The result in one word, and how it came to that: the details behind the word, and what was expected instead. */
function describeResult({ result, expected, asExpected }: JobOutcome): [result: string, how: string] {
  const [, word = result, details = ""] = /^([\w-]+)(?:: |, | \()(.*?)\)?$/s.exec(result) ?? [];
  const isNoted = !asExpected || (expected !== null && details !== "");
  const judged = asExpected ? "as expected" : `expected: ${expected}`;
  return [oneLine(word), oneLine([details, isNoted ? judged : ""].filter(Boolean).join("; "))];
}

/** Without the columns in which no row says anything: a reaction is the demo's own jobs' only. */
function withoutEmptyColumns(
  screen: Screen,
  rows: readonly (readonly string[])[],
): [readonly Column[], string[][]] {
  const isKept = (_: unknown, at: number) => rows.some((row) => !["–", ""].includes(row[at] ?? ""));
  const kept = columns.map((column) => ({ ...column, title: screen.bold(column.title) }));
  return [kept.filter(isKept), rows.map((row) => row.filter(isKept))];
}

const MOST_NAMES = 5;

/** Before: lines for the screen. What is left out of many jobs is one line, with the place where it stands first. */
export function formatNotices({ notices, notStarted = [] }: PipelineDefinition): string[] {
  const grouped = new Map<string, Notice[]>();
  for (const notice of notices) grouped.set(notice.message, [...(grouped.get(notice.message) ?? []), notice]);
  const lines = [...grouped].map(([message, group]) => {
    const [{ file = "", line = 0 } = {}] = group;
    const jobs = [...new Set(group.flatMap(({ job }) => job ?? []))];
    const whose = jobs.length > 0 && !message.includes(`“${jobs[0]}”`) ? ` (${listNames(jobs)})` : "";
    return `  ${file}:${line}: ${message}${whose}`;
  });
  if (notStarted.length === 0) return lines;
  return [
    ...lines,
    `  not started for a push to this branch, by rules, only or except: ${listNames(notStarted)}`,
  ];
}

/** How a job ended, as a sign and in text for the table. */
interface JobMark {
  readonly mark: "✓" | "✗" | "!" | "–" | "▷";
  /** Undefined where GitLab's own word says it. */
  readonly text?: string;
}

function markOf(job: Job): JobMark {
  switch (job.status) {
    case "success":
      return { mark: "✓" };
    case "failed":
      return isForgiven(job) ? { mark: "!", text: "failed, as it may" } : { mark: "✗" };
    case "manual":
      return { mark: "▷", text: "manual: not started" };
    case "created":
      return { mark: "–", text: "waits for a manual job" };
    default:
      return { mark: "–" };
  }
}

interface PipelineResult {
  readonly ok: boolean;
  readonly sentence: string;
}

/** `jobs`: the newest attempt of each. A pipeline in which nothing ran has shown nothing, so it is not `ok`. */
export function pipelineResult(
  definition: PipelineDefinition,
  jobs: readonly Job[],
  status: JobStatus,
): PipelineResult {
  const ofMark = (mark: JobMark["mark"]) => jobs.filter((job) => markOf(job).mark === mark);
  const [succeeded, forgiven, failed, manual] = [ofMark("✓"), ofMark("!"), ofMark("✗"), ofMark("▷")];
  const ran = succeeded.length + forgiven.length + failed.length;
  const asides = [
    forgiven.length > 0 ? `${names(forgiven)} failed, as ${one(forgiven) ? "it" : "they"} may` : "",
    manual.length > 0 ? `${names(manual)} would be started by hand` : "",
  ].filter(Boolean);
  const end = asides.length > 0 ? `; ${asides.join("; ")}.` : ".";
  if (definition.whyEmpty !== undefined)
    return { ok: false, sentence: `No job ran: ${definition.whyEmpty}.` };
  if (failed.length > 0) return { ok: false, sentence: `The pipeline failed: ${names(failed)} failed${end}` };
  if (ran === 0) return { ok: false, sentence: `No job ran${end}` };
  const number = `${ran} ${ran === 1 ? "job" : "jobs"}`;
  if (status === "success") return { ok: true, sentence: `The pipeline succeeded: ${number} ran${end}` };
  if (status === "manual")
    return { ok: true, sentence: `The pipeline goes no further before a manual job: ${number} ran${end}` };
  return { ok: false, sentence: `The pipeline is ${status}: ${number} ran${end}` };
}

function one(jobs: readonly unknown[]): boolean {
  return jobs.length === 1;
}

function names(jobs: readonly Job[]): string {
  return listNames(jobs.map((job) => job.definition.name));
}

/** `“a”, “b” and 3 more`. */
function listNames(all: readonly string[]): string {
  const shown = all
    .slice(0, all.length > MOST_NAMES ? MOST_NAMES - 1 : MOST_NAMES)
    .map((name) => `“${name}”`);
  const last = all.length > shown.length ? `${all.length - shown.length} more` : shown.pop();
  return shown.length > 0 ? `${shown.join(", ")} and ${last}` : (last ?? "");
}
