import type { Command } from "commander";
import type { JobView } from "../views/api.ts";
import { withViews } from "./client.ts";
import type { Run } from "./context.ts";
import { ago, cellText, jobTime, stateWord } from "./messages.ts";
import { countOption } from "./options.ts";
import type { Output } from "./output.ts";

interface Options {
  readonly live?: boolean;
  readonly limit: number;
}

export function addJobs(program: Command, run: Run): void {
  program
    .command("jobs")
    .description("jobs, newest first")
    .option("--live", "only those that have not ended")
    .option("-n, --limit <count>", "how many", countOption, 20)
    .action(
      run<Options>(async (context, _args, { live, limit }) => {
        const { output } = context;
        const jobs = await withViews(context, async (views) => await views.jobs({ live, limit }));
        output.result(jobs, () => {
          if (jobs.length === 0)
            output.note(live ? "No job is being worked on." : "No job has been claimed yet.");
          printJobs(output, jobs);
        });
        return undefined;
      }),
    );
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
