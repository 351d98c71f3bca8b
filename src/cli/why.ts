import type { Command } from "commander";
import { plainText } from "../base/text.ts";
import { formatMib } from "../base/units.ts";
import type { EventView, JobStory } from "../views/api.ts";
import { withViews } from "./client.ts";
import type { Run } from "./context.ts";
import { type CliError, DaemonError } from "./errors.ts";
import { clockTime, stateWord } from "./messages.ts";
import { jobArgument } from "./options.ts";
import type { Output } from "./output.ts";

/** What guests asked of the proxy fills pages; only what was refused, failed or is missing in a list explains something. */
const quiet: ReadonlySet<string> = new Set(["egress:allowed", "egress:asked", "egress:connected"]);

export function addWhy(program: Command, run: Run): void {
  program
    .command("why")
    .description("the story of a job: why it waits, or how it ended")
    .argument("<job>", "GitLab's job id, or the address of the job's page")
    .option("-a, --all", "every event, network connections included")
    .action(
      run<{ all?: boolean }>(async (context, [word], { all }) => {
        const id = jobArgument(word);
        const report = await withViews(context, async (views) => await views.job(id));
        if (report === undefined) throw unknownJob(id);
        context.output.result(report, () => printStory(context.output, report, all === true));
        return undefined;
      }),
    );
}

function unknownJob(id: number): CliError | DaemonError {
  return new DaemonError("not_found", `job ${id} is not known here`, {
    hint: "This FireRunner has neither claimed nor noticed it, or it ended long ago.",
  });
}

export function printStory(output: Output, story: JobStory, all: boolean): void {
  const { events, explanation } = story;
  output.line(output.paint("bold", explanation.summary));
  const head = headOf(output, story);
  if (head !== "") output.line(`  ${head}`);
  if (explanation.cause !== null) output.line(`  cause: ${plainText(explanation.cause)}`);
  const used = usedWords(story);
  if (used !== "") output.line(`  used: ${used}`);
  if ("job" in story && story.traceId !== null) output.line(`  trace: ${plainText(story.traceId)}`);
  for (const advice of explanation.advice) output.line(`  → ${plainText(advice)}`);
  output.line();
  for (const event of events)
    if (all || !quiet.has(event.kind)) {
      printEvent(output, event, events[0]);
    }
}

function headOf(output: Output, story: JobStory): string {
  if ("job" in story) {
    const { job } = story;
    return `${plainText(job.project)}: ${plainText(job.name)} (${stateWord(output, job)}, pool ${job.pool})`;
  }
  const { project, name, tags } = story.waiting;
  return project === "" ? "" : plainText(`${project}: ${name} (tags: ${tags.join(", ")})`);
}

/** What its machine has used at most, as far as its guest has told. */
function usedWords(story: JobStory): string {
  if (!("job" in story)) return "";
  const { size, peakMemoryMib, peakDiskMib } = story.job;
  const of = (peak: number | null, asked: number, what: string) =>
    peak === null ? [] : [`${formatMib(peak)} of ${formatMib(asked)} ${what}`];
  return [...of(peakMemoryMib, size.memoryMib, "memory"), ...of(peakDiskMib, size.diskMib, "disk")].join(
    ", ",
  );
}

/** Time of day, time since the first that is known, and what happened. */
function printEvent(output: Output, event: EventView, first: EventView | undefined): void {
  const sinceS = (event.at - (first?.at ?? event.at)) / 1000;
  const [head = "", ...rest] = plainText(event.text).split("\n");
  const time = `${clockTime(event.at)} ${`+${sinceS.toFixed(1)} s`.padStart(9)}`;
  output.line(`${output.paint("dim", time)}  ${head}`, [time.length + 2, 4]);
  for (const line of rest) output.line(line);
}
