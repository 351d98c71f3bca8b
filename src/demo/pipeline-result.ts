/**
 * What is said of a pipeline of the user's own, of which nothing is expected: before it runs what of the file is left out, and at the end a
 * mark for each job and one sentence.
 */

import type { JobStatus } from "@firerunner/gitlab-stand-in/model";
import { isForgiven, type Job } from "@firerunner/gitlab-stand-in/model";
import type { Notice, PipelineDefinition } from "../ci/definition.ts";

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
export interface JobMark {
  readonly mark: "✓" | "✗" | "!" | "–" | "▷";
  /** Undefined where GitLab's own word says it. */
  readonly text?: string;
}

export function markOf(job: Job): JobMark {
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

export interface PipelineResult {
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
