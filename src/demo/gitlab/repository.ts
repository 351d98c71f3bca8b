import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { run } from "../../base/process.ts";
import type { Project } from "./model.ts";

const nobody = ["-c", "user.name=Demo", "-c", "user.email=demo@example.com"];

/** Where a project's bare repository comes from: files that become its first commit, or a repository to copy. */
export type RepositorySource =
  | { readonly files: Readonly<Record<string, string>> }
  | { readonly copyOf: string };

/** Makes a bare repository at `path`. Returns the branch its HEAD names. The source is only read. */
export async function createRepository(path: string, source: RepositorySource): Promise<string> {
  await mkdir(dirname(path), { recursive: true });
  if ("files" in source) await commitFiles(path, source.files);
  else
    await run("git", [
      "-c",
      "safe.directory=*",
      "clone",
      "--quiet",
      "--bare",
      "--no-local",
      source.copyOf,
      path,
    ]);
  return (await git(path, ["symbolic-ref", "--short", "HEAD"])).trim();
}

async function commitFiles(path: string, files: Readonly<Record<string, string>>): Promise<void> {
  const tree = await mkdtemp(`${path}.work-`);
  try {
    await run("git", ["init", "--quiet", "--initial-branch=main", tree]);
    for (const [name, content] of Object.entries(files)) {
      await mkdir(dirname(join(tree, name)), { recursive: true });
      await writeFile(join(tree, name), content);
    }
    await run("git", ["-C", tree, "add", "--all"]);
    await run("git", ["-C", tree, ...nobody, "commit", "--quiet", "--allow-empty", "--message", "Start"]);
    await run("git", ["clone", "--quiet", "--bare", tree, path]);
  } finally {
    await rm(tree, { recursive: true, force: true });
  }
}

/** GitLab keeps each pipeline's commit under a ref of its own, which is what runners fetch. Returns the commit. */
export async function markPipeline(project: Project, pipelineId: number, ref: string): Promise<string> {
  if (project.repository === undefined) return "0".repeat(40);
  const sha = (await git(project.repository, ["rev-parse", "--verify", `${ref}^{commit}`])).trim();
  await git(project.repository, ["update-ref", `refs/pipelines/${pipelineId}`, sha]);
  return sha;
}

/** The text of a file as the newest commit has it. */
export async function readFileAtHead(repository: string, path: string): Promise<string> {
  return await git(repository, ["show", `HEAD:${path}`]);
}

async function git(repository: string, args: readonly string[]): Promise<string> {
  return await run("git", [`--git-dir=${repository}`, ...args]);
}
