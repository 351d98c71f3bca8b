import { resolve } from "node:path";
import type { Project } from "@firerunner/gitlab-stand-in/model";
import {
  changesAtHead,
  filesAtHead,
  readCommit,
  readFileAtHead,
} from "@firerunner/gitlab-stand-in/repository";
import type { StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import { pipelineVariables } from "@firerunner/gitlab-stand-in/variables";
import { describeError } from "../base/errors.ts";
import type { PipelineDefinition } from "../ci/definition.ts";
import { loadPipeline, parsePipeline } from "../ci/parse.ts";
import type { Push } from "../ci/push.ts";
import { DemoError } from "./errors.ts";
import { demoExpectations, demoFiles, demoPipeline, type Expectation, sizesPipeline } from "./pipeline.ts";

/** One pipeline that the demo runs. */
export interface Part {
  readonly project: Project;
  readonly definition: PipelineDefinition;
}

/** What a run of the demo runs. */
export interface Subject {
  /** Its jobs come through the pool's runner. */
  readonly pooled: Part;
  /** Its jobs come by webhook, and their tags say what machines they get. Not for a user's own repository. */
  readonly tagged: Part | undefined;
  /** How each job must end, by name. Of a user's own jobs nothing is expected. */
  readonly expectations: Readonly<Record<string, Expectation>>;
}

/** The pipelines of a subject. */
export function partsOf({ pooled, tagged }: Subject): Part[] {
  return tagged ? [pooled, tagged] : [pooled];
}

/** The demo's own pipelines, or that of the newest commit of the user's repository. */
export async function prepareSubject(gitlab: StandInGitLab, repo: string | undefined): Promise<Subject> {
  if (repo !== undefined) return await prepareRepository(gitlab, resolve(repo));
  return {
    pooled: await demoPart(gitlab, "demo/machines", demoPipeline),
    tagged: await demoPart(gitlab, "demo/sizes", sizesPipeline),
    expectations: demoExpectations,
  };
}

async function demoPart(gitlab: StandInGitLab, path: string, pipeline: string): Promise<Part> {
  const project = await gitlab.projects.add({ path, repository: { files: demoFiles(pipeline) } });
  return { project, definition: parsePipeline(pipeline) };
}

async function prepareRepository(gitlab: StandInGitLab, path: string): Promise<Subject> {
  const project = await gitlab.projects
    .add({ path: projectPath(path), repository: { copyOf: path } })
    .catch((cause) => {
      throw new DemoError(
        "demo_repository",
        `${path} could not be read as a Git repository: ${lastLine(cause)}`,
        {
          cause,
          hint: "give the path of a repository with at least one commit, on a branch",
        },
      );
    });
  const repository = project.repository ?? "";
  const text = await readFileAtHead(repository, ".gitlab-ci.yml").catch((cause) => {
    throw new DemoError("demo_repository", `the newest commit of ${path} has no .gitlab-ci.yml`, {
      cause,
      hint: "commit the file: what is not committed is not run",
    });
  });
  const push = await pushOf(gitlab, project, repository);
  const readFile = (name: string) => readFileAtHead(repository, name).catch(() => undefined);
  const definition = await loadPipeline(text, push, readFile);
  return { pooled: { project, definition }, tagged: undefined, expectations: {} };
}

/** As if the newest commit had just been pushed to the default branch. */
async function pushOf(gitlab: StandInGitLab, project: Project, repository: string): Promise<Push> {
  const ref = project.defaultBranch;
  const commit = await readCommit(repository, ref);
  const pipeline = { project, ref, sha: "0".repeat(40), protectedRef: true, commit };
  const variables = [...pipelineVariables(pipeline, gitlab.url), ...project.variables];
  return {
    branch: ref,
    projectPath: project.path,
    variables: Object.fromEntries(variables.map(({ key, value }) => [key, value])),
    files: await filesAtHead(repository),
    changes: await changesAtHead(repository),
  };
}

function projectPath(path: string): string {
  const name = (path.split("/").at(-1) ?? "").toLowerCase().replaceAll(/[^a-z0-9_.-]/g, "-");
  return `local/${name.replace(/\.git$/, "") || "repository"}`;
}

function lastLine(cause: unknown): string {
  return describeError(cause).trim().split("\n").at(-1) ?? "";
}
