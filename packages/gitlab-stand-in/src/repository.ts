import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { run } from "../../../src/base/process.ts";
import type { Commit, Project } from "./model.ts";

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

/** What the newest commit of a branch says of itself; undefined where there is no such branch. */
export async function readCommit(repository: string | undefined, ref: string): Promise<Commit | undefined> {
  if (repository === undefined) return undefined;
  const format = "--format=%an <%ae>%n%cI%n%B";
  const text = await git(repository, ["show", "--no-patch", format, `${ref}^{commit}`]).catch(
    () => undefined,
  );
  const [author = "", committedAt = "", ...message] = text?.split("\n") ?? [];
  return text === undefined ? undefined : { author, committedAt, message: message.join("\n").trim() };
}

/** Paths of all files of the newest commit. */
export async function filesAtHead(repository: string): Promise<string[]> {
  return paths(await git(repository, ["ls-tree", "-r", "-z", "--name-only", "--full-tree", "HEAD"]));
}

/** Paths of what the newest commit changed; undefined for a first commit, of which everything is new. */
export async function changesAtHead(repository: string): Promise<string[] | undefined> {
  return await git(repository, ["diff", "-z", "--name-only", "HEAD^", "HEAD"]).then(paths, () => undefined);
}

function paths(text: string): string[] {
  return text.split("\0").filter(Boolean);
}

/** The text of a file as the newest commit has it. */
export async function readFileAtHead(repository: string, path: string): Promise<string> {
  return await git(repository, ["show", `HEAD:${path}`]);
}

async function git(repository: string, args: readonly string[]): Promise<string> {
  return await run("git", [`--git-dir=${repository}`, ...args]);
}
