import type { Job } from "@firerunner/gitlab-stand-in/model";
import type { StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import type { Clock } from "../base/clock.ts";
import { cutToWidth, oneLine, plainText, visibleWidth } from "../base/text.ts";
import { formatDuration } from "../base/units.ts";
import type { Screen } from "./screen.ts";
import type { Phase, Steps, Timeline } from "./timeline.ts";

/** Columns of a job's name before its log. */
const MOST_NAME = 24;

const phaseTexts: Readonly<Record<Phase, string>> = {
  waiting: "waits for other jobs",
  queued: "queued",
  booting: "claimed, machine boots",
  preparing: "machine is up, runner prepares",
  running: "script runs",
  ended: "ended",
};

interface ObserverOptions {
  readonly gitlab: StandInGitLab;
  readonly timeline: Timeline;
  readonly steps: Steps;
  readonly screen: Screen;
  readonly clock: Clock;
  readonly startedAt: number;
}

interface Observer {
  /** The foot of the screen: one line for each job. */
  foot(): string[];
  stop(): void;
}

/** Shows each job's log and its changes as they happen. */
export function createObserver(options: ObserverOptions): Observer {
  const { gitlab, timeline, steps, screen, clock, startedAt } = options;
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
      timeline.noteLine(job, line);
      say(job, `${screen.dim("│")} ${line}`);
      notePhase(job);
      steps.onLine(job, line);
    };
    stops.push(
      job.trace.onAppend((bytes) => {
        for (const line of lines.push(bytes)) take(line);
      }),
      () => lines.end().forEach(take),
    );
  }

  function notePhase(job: Job): void {
    const phase = timeline.phase(job);
    if (lastPhase.get(job) === phase) return;
    if (!lastPhase.has(job)) follow(job);
    lastPhase.set(job, phase);
    const at = screen.dim(`${formatDuration(clock.now() - startedAt).padStart(6)}`);
    const text = phase === "ended" ? describeEnd(job) : phaseTexts[phase];
    say(job, `${screen.dim("●")} ${text} ${at}`);
  }

  for (const job of gitlab.jobs.all()) notePhase(job);
  stops.push(gitlab.jobs.onChange(notePhase));

  return {
    foot() {
      const shown = gitlab.jobs.all().filter((job) => job.retriedAs === undefined);
      return [
        "─".repeat(60),
        ...shown.map((job) => `${label(job)} ${describeProgress(job, timeline, clock)}`),
      ];
    },
    stop() {
      for (const stop of stops.splice(0)) stop();
    },
  };
}

function describeProgress(job: Job, timeline: Timeline, clock: Clock): string {
  const phase = timeline.phase(job);
  if (phase === "ended") return describeEnd(job);
  const { queuedAt, claimedAt, bootedAt, runningAt } = timeline.times(job);
  const since = runningAt ?? bootedAt ?? claimedAt ?? queuedAt;
  return since === undefined
    ? phaseTexts[phase]
    : `${phaseTexts[phase]} ${formatDuration(clock.now() - since)}`;
}

/** `failed (script_failure, exit code 3)` */
export function describeEnd(job: Job): string {
  const details = [
    ...(job.failureReason ? [job.failureReason] : []),
    ...(job.exitCode ? [`exit code ${job.exitCode}`] : []),
  ];
  return details.length > 0 ? `${job.status} (${details.join(", ")})` : job.status;
}

interface LogLines {
  /** Takes bytes as they come and returns the whole lines among them, cleaned for a terminal. */
  push(bytes: Uint8Array): string[];
  /** What is left when no more comes. */
  end(): string[];
}

const SECTION_MARK = /section_(start|end):\d+:[^\r\n]*\r/g;

/**
 * Cuts a job's log into lines for people: no section marks, no colours or other control sequences (a job must not steer the
 * user's terminal), and of a line that was written over only its last state.
 */
export function createLogLines(): LogLines {
  const decoder = new TextDecoder();
  let rest = "";

  function clean(line: string): string {
    const states = line.replaceAll(SECTION_MARK, "").split("\r").map(plainText);
    return (states.findLast((state) => state !== "") ?? "").replaceAll("\n", " ").replaceAll("\t", "  ");
  }

  return {
    push(bytes) {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      return lines.map(clean).filter((line) => line !== "");
    },
    end() {
      const line = clean(rest);
      rest = "";
      return line === "" ? [] : [line];
    },
  };
}
