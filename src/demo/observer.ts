import type { Job } from "@firerunner/gitlab-stand-in/model";
import type { StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import type { Clock } from "../base/clock.ts";
import { oneLine } from "../base/plain-text.ts";
import { formatDuration } from "../base/units.ts";
import { cutToWidth, visibleWidth } from "../base/wrap.ts";
import type { Acts } from "./acts.ts";
import type { Journal, Phase } from "./journal.ts";
import { createLogLines } from "./log-lines.ts";
import type { Screen } from "./screen.ts";

/** Columns of a job's name before its log. */
const MOST_NAME = 24;

const phaseWords: Readonly<Record<Phase, string>> = {
  waiting: "waits for other jobs",
  queued: "queued",
  booting: "claimed, machine boots",
  preparing: "machine is up, runner prepares",
  running: "script runs",
  ended: "ended",
};

export interface ObserverParts {
  readonly gitlab: StandInGitLab;
  readonly journal: Journal;
  readonly acts: Acts;
  readonly screen: Screen;
  readonly clock: Clock;
  readonly startedAt: number;
}

export interface Observer {
  /** The foot of the screen: one line for each job. */
  foot(): string[];
  stop(): void;
}

/** Shows each job's log and its changes as they happen. */
export function createObserver(parts: ObserverParts): Observer {
  const { gitlab, journal, acts, screen, clock, startedAt } = parts;
  const stops: (() => void)[] = [];
  const lastPhase = new Map<Job, Phase>();
  function label({ definition }: Job): string {
    const widths = gitlab.jobs.all().map((job) => visibleWidth(oneLine(job.definition.name)));
    const width = Math.min(MOST_NAME, Math.max(...widths, 4));
    const name = cutToWidth(oneLine(definition.name), width);
    return name + " ".repeat(width - visibleWidth(name));
  }

  function say(job: Job, text: string): void {
    screen.exact(`${label(job)} ${text}`);
  }

  function follow(job: Job): void {
    job.watched = true;
    const lines = createLogLines();
    const take = (line: string) => {
      journal.noteLine(job, line);
      say(job, `${screen.dim("│")} ${line}`);
      notePhase(job);
      acts.onLine(job, line);
    };
    stops.push(
      job.trace.onAppend((bytes) => {
        for (const line of lines.push(bytes)) take(line);
      }),
      () => lines.end().forEach(take),
    );
  }

  function notePhase(job: Job): void {
    const phase = journal.phase(job);
    if (lastPhase.get(job) === phase) return;
    if (!lastPhase.has(job)) follow(job);
    lastPhase.set(job, phase);
    const at = screen.dim(`${formatDuration(clock.now() - startedAt).padStart(6)}`);
    const words = phase === "ended" ? describeEnd(job) : phaseWords[phase];
    say(job, `${screen.dim("●")} ${words} ${at}`);
  }

  for (const job of gitlab.jobs.all()) notePhase(job);
  stops.push(gitlab.jobs.onChange(notePhase));

  return {
    foot() {
      const shown = gitlab.jobs.all().filter((job) => job.retriedAs === undefined);
      return ["─".repeat(60), ...shown.map((job) => `${label(job)} ${footWords(job, journal, clock)}`)];
    },
    stop() {
      for (const stop of stops.splice(0)) stop();
    },
  };
}

function footWords(job: Job, journal: Journal, clock: Clock): string {
  const phase = journal.phase(job);
  if (phase === "ended") return describeEnd(job);
  const { queuedAt, claimedAt, bootedAt, runningAt } = journal.times(job);
  const since = runningAt ?? bootedAt ?? claimedAt ?? queuedAt;
  return since === undefined
    ? phaseWords[phase]
    : `${phaseWords[phase]} ${formatDuration(clock.now() - since)}`;
}

/** `failed (script_failure, exit code 3)` */
export function describeEnd(job: Job): string {
  const details = [
    ...(job.failureReason ? [job.failureReason] : []),
    ...(job.exitCode ? [`exit code ${job.exitCode}`] : []),
  ];
  return details.length > 0 ? `${job.status} (${details.join(", ")})` : job.status;
}
