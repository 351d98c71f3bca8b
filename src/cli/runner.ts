import type { Command } from "commander";
import { systemClock } from "../base/clock.ts";
import { plainText } from "../base/text.ts";
import { DAY_MS } from "../base/units.ts";
import type { RunnerView } from "../views/webhook-api.ts";
import { withDaemon, withViews } from "./client.ts";
import type { Run } from "./context.ts";
import { ago, cellText, clockTime, formatSize } from "./messages.ts";
import { tagsOption } from "./options.ts";
import type { Output } from "./output.ts";

/** A token that ends sooner is worth a word. */
const SOON_MS = 14 * DAY_MS;

export function addRunner(program: Command, run: Run): void {
  const runner = program.command("runner").description("the GitLab runners that are made for tags");
  addCreate(runner, run);
  addList(runner, run);
  addDelete(runner, run);
  addPrune(runner, run);
}

function addCreate(runner: Command, run: Run): void {
  runner
    .command("create")
    .description("make the runner of a set of tags before any job asks for it")
    .requiredOption("-t, --tags <tags>", "all its tags, with commas between", tagsOption)
    .action(
      run<{ tags: string[] }>(async (context, _args, { tags }) => {
        const { output } = context;
        const made = await withDaemon(context, async (daemon) => await daemon.createRunner(tags));
        output.result(made, () => output.line(`${nameOf(made)} serves jobs with ${tagsOf(made)}`));
        return undefined;
      }),
    );
}

function addList(runner: Command, run: Run): void {
  runner
    .command("list")
    .description("the runners there are; also when FireRunner does not run")
    .option("--all", "those that are gone as well")
    .action(
      run<{ all?: boolean }>(async (context, _args, { all }) => {
        const { output } = context;
        const runners = await withViews(context, async (views) => await views.runners({ gone: all }));
        output.result(runners, () => {
          if (runners.length === 0)
            output.note("No runner has been made: the first job with a size in its tags makes one.");
          printRunners(output, runners);
        });
        return undefined;
      }),
    );
}

function addDelete(runner: Command, run: Run): void {
  runner
    .command("delete")
    .description("take a runner out of use; it is deleted in GitLab when its jobs have ended")
    .argument("<runner>", "its key, such as r-abcd2345, or GitLab's id")
    .action(
      run(async (context, [name = ""]) => {
        const { output } = context;
        const retired = await withDaemon(
          context,
          async (daemon) => await daemon.deleteRunner(name.replace(/^#/, "")),
        );
        output.result(retired, () => output.line(`${nameOf(retired)} ${deletionWords(retired)}`));
        return undefined;
      }),
    );
}

function addPrune(runner: Command, run: Run): void {
  runner
    .command("prune")
    .description("delete every runner that no job asks for, and what GitLab has of ours beyond that")
    .action(
      run(async (context) => {
        const { output } = context;
        const messages = await withDaemon(context, async (daemon) => await daemon.post("runners/prune"));
        output.result({ messages }, () => {
          if (messages.length === 0) output.note("There was nothing to delete.");
          for (const message of messages) output.line(plainText(message));
        });
        return undefined;
      }),
    );
}

const columns = [
  { title: "RUNNER" },
  { title: "GITLAB" },
  { title: "STATE" },
  { title: "TAGS", cut: 21 },
  { title: "SIZE", spare: 2 },
  { title: "JOBS" },
  { title: "USED", spare: 1 },
  { title: "VERIFIED", spare: 3 },
  { title: "NOTE", below: true },
];

function printRunners(output: Output, runners: readonly RunnerView[]): void {
  const rows = runners.map((runner) => [
    runner.key,
    runner.gitlabId === null ? "-" : String(runner.gitlabId),
    stateWord(output, runner),
    cellText(runner.tags.join(","), 50),
    formatSize(runner.size),
    runner.jobId === null ? String(runner.unfinishedJobs) : `${runner.unfinishedJobs} (job ${runner.jobId})`,
    ago(runner.usedAt),
    runner.verifiedAt === null ? "never" : ago(runner.verifiedAt),
    noteOf(output, runner),
  ]);
  output.table(columns, rows);
}

function stateWord(output: Output, { state }: RunnerView): string {
  return output.paint(state === "active" ? "green" : state === "gone" ? "dim" : "yellow", state);
}

/** Why it is to be deleted, or that its token ends soon. */
function noteOf(output: Output, { reason, tokenExpiresAt, state }: RunnerView): string {
  if (reason !== null) return reason;
  if (state !== "active" || tokenExpiresAt === null || tokenExpiresAt - systemClock.now() > SOON_MS)
    return "";
  return output.paint("yellow", `its token ends ${clockTime(tokenExpiresAt)}`);
}

function nameOf({ key, gitlabId }: RunnerView): string {
  return gitlabId === null ? key : `${key} (GitLab's runner ${gitlabId})`;
}

function tagsOf({ tags }: RunnerView): string {
  return plainText(tags.join(", "));
}

function deletionWords({ state, unfinishedJobs }: RunnerView): string {
  if (state === "gone") return "is deleted";
  if (unfinishedJobs === 0) return "is out of use and will be deleted at once";
  return `is out of use and will be deleted when its ${unfinishedJobs === 1 ? "job has" : `${unfinishedJobs} jobs have`} ended`;
}
