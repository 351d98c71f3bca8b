import type { Command } from "commander";
import { type JobResult, type JobState, jobResults, jobStates } from "../domain/states.ts";
import type { JobView } from "../views/api.ts";
import { withViews } from "./client.ts";
import type { Run } from "./context.ts";
import { ago, cellText, jobTime, stateWord } from "./messages.ts";
import { countOption, projectOption, sinceOption, wordsOption } from "./options.ts";
import type { Output } from "./output.ts";

interface Options {
  readonly live?: boolean;
  readonly limit: number;
  readonly project?: string;
  readonly pool?: string;
  readonly state?: readonly JobState[];
  readonly result?: readonly JobResult[];
  readonly since?: number;
}

export function addJobs(program: Command, run: Run): void {
  program
    .command("jobs")
    .description("jobs, newest first")
    .option("--live", "only those that have not ended")
    .option("--project <path>", "of this project, or of all projects below this group", projectOption)
    .option("--pool <name>", "of this pool")
    .option("--state <states>", `in these states: ${jobStates.join(", ")}`, wordsOption(jobStates))
    .option("--result <results>", `with these ends: ${jobResults.join(", ")}`, wordsOption(jobResults))
    .option("--since <time>", "claimed since then: 90m, 7d, 2026-11-01", sinceOption)
    .option("-n, --limit <count>", "how many", countOption, 20)
    .action(
      run<Options>(async (context, _args, { live, limit, project, pool, state, result, since }) => {
        const { output } = context;
        const filter = { project, pool, states: state, results: result, since };
        const isFiltered = Object.values(filter).some((each) => each !== undefined);
        const jobs = await withViews(context, async (views) => await views.jobs({ live, limit, ...filter }));
        output.result(jobs, () => {
          if (jobs.length === 0) output.note(noneWords(live === true, isFiltered));
          printJobs(output, jobs);
        });
        return undefined;
      }),
    );
}

function noneWords(isLive: boolean, isFiltered: boolean): string {
  if (isFiltered) return "No job is like that.";
  return isLive ? "No job is being worked on." : "No job has been claimed yet.";
}

const columns = [
  { title: "JOB" },
  { title: "STATE" },
  { title: "POOL", cut: 12, spare: 2 },
  { title: "PROJECT", cut: 12, spare: 1 },
  { title: "NAME", cut: 12 },
  { title: "MACHINE" },
  { title: "CLAIMED", spare: 3 },
  { title: "TIME" },
];

export function printJobs(output: Output, jobs: readonly JobView[]): void {
  const rows = jobs.map((job) => [
    String(job.id),
    stateWord(output, job),
    job.pool,
    cellText(job.project),
    cellText(job.name),
    job.machineId ?? "-",
    ago(job.claimedAt),
    jobTime(job),
  ]);
  output.table(columns, rows);
}
