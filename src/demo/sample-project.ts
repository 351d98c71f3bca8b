import { resolve } from "node:path";
import type { Project } from "@firerunner/gitlab-stand-in/model";
import { pipelineVariables } from "@firerunner/gitlab-stand-in/payload";
import { readCommit } from "@firerunner/gitlab-stand-in/projects";
import type { StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import { describeError } from "../base/errors.ts";
import type { PipelineDefinition } from "../ci/definition.ts";
import { loadPipeline, parsePipeline } from "../ci/parse.ts";
import type { Push } from "../ci/push.ts";
import { changesAtHead, filesAtHead, readFileAtHead } from "../ci/repository.ts";
import { DemoError } from "./errors.ts";

/** One pipeline that the demo runs. */
interface SamplePipeline {
  readonly project: Project;
  readonly definition: PipelineDefinition;
}

/** What a run of the demo runs. */
export interface Sample {
  /** Its jobs come through the pool's runner. */
  readonly pooled: SamplePipeline;
  /** Its jobs come by webhook, and their tags say what machines they get. Not for a user's own repository. */
  readonly tagged: SamplePipeline | undefined;
  /** How each job must end, by name. Of a user's own jobs nothing is expected. */
  readonly expectations: Readonly<Record<string, Expectation>>;
}

/** The pipelines of a sample. */
export function pipelinesOf({ pooled, tagged }: Sample): SamplePipeline[] {
  return tagged ? [pooled, tagged] : [pooled];
}

/** The demo's own pipelines, one job of which runs in `image`, or that of the newest commit of the user's repository. */
export async function prepareSample(
  gitlab: StandInGitLab,
  { repo, image }: { readonly repo: string | undefined; readonly image: string },
): Promise<Sample> {
  if (repo !== undefined) return await prepareRepository(gitlab, resolve(repo));
  return {
    pooled: await demoPipelineIn(gitlab, "demo/machines", demoPipeline, image),
    tagged: await demoPipelineIn(gitlab, "demo/sizes", sizesPipeline),
    expectations: demoExpectations,
  };
}

async function demoPipelineIn(
  gitlab: StandInGitLab,
  path: string,
  pipeline: string,
  image = "",
): Promise<SamplePipeline> {
  const variables = image === "" ? [] : [{ key: "DEMO_IMAGE", value: image, public: true }];
  const project = await gitlab.projects.add({
    path,
    variables,
    repository: { files: demoFiles(pipeline) },
  });
  return { project, definition: parsePipeline(pipeline) };
}

async function prepareRepository(gitlab: StandInGitLab, path: string): Promise<Sample> {
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

/** The pipelines of `firerunner demo`, and how each of their jobs must end. */
const demoPipeline = `
build:
  stage: build
  script:
    - uname -sr
    - mkdir out
    - echo "made by job $CI_JOB_ID on $(hostname)" > out/answer.txt
    - mkdir -p tools
    - echo "kept by job $CI_JOB_ID" > tools/kept.txt
  artifacts:
    paths: [out/]
  cache: &tools
    key: tools
    paths: [tools/]

use:
  stage: test
  needs: [build]
  script:
    - cat out/answer.txt
    - grep -q "made by job" out/answer.txt
    - grep "kept by job" tools/kept.txt
  cache: { <<: *tools, policy: pull }

in-image:
  stage: build
  tags: [images]
  image: $DEMO_IMAGE
  services:
    - name: $DEMO_IMAGE
      alias: web
      command: [python3, -m, http.server, "8000", --directory, /etc]
  script:
    - test -e /run/.containerenv
    - curl --silent --fail --retry 20 --retry-all-errors http://web:8000/os-release

fails:
  stage: build
  script:
    - echo "the next command fails"
    - (exit 3)

cancelled:
  stage: build
  script:
    - for i in $(seq 1 600); do echo "working $i"; sleep 1; done

killed:
  stage: build
  script:
    - for i in $(seq 1 600); do echo "working $i"; sleep 1; done
`;

/**
 * The pipeline whose jobs come by webhook: each looks from inside whether its machine has the size that its tag names. A kernel
 * keeps some of the memory for itself, so what `MemTotal` says lies below the size, and above that of the next smaller machine.
 */
const sizesPipeline = `
small:
  tags: [firecracker-1cpu-640mb]
  script:
    - echo "$(nproc) CPU, $(awk '/^MemTotal/ { print $2 }' /proc/meminfo) KiB of memory"
    - test "$(nproc)" = 1
    - awk '/^MemTotal/ { exit !($2 > 500000 && $2 < 640 * 1024) }' /proc/meminfo

large:
  tags: [firecracker-2cpu-1gb]
  script:
    - echo "$(nproc) CPUs, $(awk '/^MemTotal/ { print $2 }' /proc/meminfo) KiB of memory"
    - test "$(nproc)" = 2
    - awk '/^MemTotal/ { exit !($2 > 850000 && $2 < 1024 * 1024) }' /proc/meminfo
`;

type DemoStep = "cancel" | "kill-machine";

export interface Expectation {
  readonly status: "success" | "failed" | "canceled";
  readonly failureReason?: string;
  /** What is done to the job once its log shows that its script runs. */
  readonly step?: DemoStep;
}

const demoExpectations: Readonly<Record<string, Expectation>> = {
  build: { status: "success" },
  use: { status: "success" },
  "in-image": { status: "success" },
  fails: { status: "failed", failureReason: "script_failure" },
  cancelled: { status: "canceled", step: "cancel" },
  killed: { status: "failed", failureReason: "runner_system_failure", step: "kill-machine" },
  small: { status: "success" },
  large: { status: "success" },
};

/** Jobs with this tag are those of the pool whose machines run containers. */
export const IMAGES_TAG = "images";

/** What a line of the log looks like once the script of such a job runs. */
export const WORKING_LINE = /^working \d+$/m;

/** What the jobs clone. */
function demoFiles(pipeline: string): Readonly<Record<string, string>> {
  return {
    "README.md": "# Demo\n\nThe repository that the jobs of `firerunner demo` clone.\n",
    ".gitlab-ci.yml": pipeline.trimStart(),
  };
}
