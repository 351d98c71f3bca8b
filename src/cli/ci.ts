import type { Command } from "commander";
import { plainText } from "../base/text.ts";
import type { CheckedJob, Runs } from "../ci/check.ts";
import type { Run } from "./context.ts";
import type { Output } from "./output.ts";

const marks: Readonly<Record<Runs, string>> = { unchanged: "✓", setting: "○", no: "✗" };
const colors: Readonly<Record<Runs, "green" | "yellow" | "red">> = {
  unchanged: "green",
  setting: "yellow",
  no: "red",
};

export function addCi(program: Command, run: Run): void {
  program
    .command("ci")
    .description("pipelines of repositories")
    .command("check")
    .description(
      "read a repository's .gitlab-ci.yml: what GitLab would start on a push, and what runs here as it is",
    )
    .argument("<repository>", "the path of a Git repository, or of a directory with a .gitlab-ci.yml")
    .option("--project <path>", "what GitLab calls it (group/name); by default as its remote origin says")
    .action(
      run<{ project?: string }>(async ({ output }, [path = "."], { project }) => {
        const { openCiRepository } = await import("../ci/repository.ts");
        const { surveyPipeline } = await import("../ci/survey.ts");
        const { checkJob } = await import("../ci/check.ts");
        const { text, push, readFile } = await openCiRepository(path, project);
        const { jobs, notices } = await surveyPipeline(text, push, readFile);
        const checked = jobs.map(checkJob);
        for (const { file, line, message } of notices)
          output.note(plainText(`${file}, line ${line}: ${message}`));
        output.result({ jobs: checked }, () => print(output, checked, push.branch));
        return undefined;
      }),
    );
}

function print(output: Output, jobs: readonly CheckedJob[], branch: string): void {
  for (const { name, starts, runs, notes } of jobs) {
    const head = `${output.paint(colors[runs], marks[runs])} ${plainText(name)}`;
    output.line(starts ? head : `${head} ${output.paint("dim", "(not started)")}`, 2);
    for (const note of notes) output.line(`    ${plainText(note)}`, 4);
  }
  if (jobs.length > 0) output.line();
  const count = (runs: Runs) => jobs.filter((job) => job.runs === runs).length;
  const started = jobs.filter(({ starts }) => starts).length;
  output.line(
    `${jobs.length} ${jobs.length === 1 ? "job" : "jobs"}. Run unchanged: ${count("unchanged")}, once something is set: ${count("setting")}, not: ${count("no")}.`,
  );
  output.line(`On a push to ${plainText(branch)} GitLab starts ${started} of them by itself.`);
}
