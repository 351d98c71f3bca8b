/** What is said before a pipeline runs: what of the file is left out, and which of its jobs GitLab would not start. */
import type { Notice, PipelineDefinition } from "./ci/definition.ts";
import { listNames } from "./verdict.ts";

/** Lines for the screen. What is left out of many jobs is one line, with the place where it stands first. */
export function announcementOf({ notices, notStarted = [] }: PipelineDefinition): string[] {
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
