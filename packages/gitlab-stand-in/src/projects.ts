import { createHash } from "node:crypto";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { run } from "../../../src/base/process.ts";
import type { CiVariable, Commit, Group, Project } from "./model.ts";

interface NewProject {
  /** `group/project` or `group/sub/project`; the groups are made with it. */
  readonly path?: string;
  /** Without one the project has no Git: its jobs need `GIT_STRATEGY: none`. */
  readonly repository?: RepositorySource;
  /** Paths of other projects whose jobs may read it with their token. */
  readonly jobTokenAllowlist?: readonly string[];
  /** What Git LFS keeps of it; its pointers are files of the repository. */
  readonly largeFiles?: readonly Buffer[];
  readonly variables?: readonly (Pick<CiVariable, "key" | "value"> & Partial<CiVariable>)[];
}

export interface Projects {
  add(options?: NewProject): Promise<Project>;
  all(): readonly Project[];
  at(path: string): Project | undefined;
  /** By id or path. */
  find(idOrPath: string): Project | undefined;
}

export function createProjects(directory: string, groups: Groups): Projects {
  const all: Project[] = [];
  let nextId = 1;

  async function add(options: NewProject = {}): Promise<Project> {
    const { path, repository: source, jobTokenAllowlist = [], largeFiles = [], variables = [] } = options;
    const id = nextId++;
    const repository = source && join(directory, "repositories", `${id}.git`);
    const defaultBranch = source && repository ? await createRepository(repository, source) : "main";
    const project = {
      id,
      path: path ?? `group/project${id === 1 ? "" : `-${id}`}`,
      archived: false,
      repository,
      defaultBranch,
      jobTokenAllowlist,
      largeFiles: new Map(largeFiles.map((file) => [createHash("sha256").update(file).digest("hex"), file])),
      variables: variables.map((each) => ({ public: false, masked: false, ...each })),
      separateCaches: true,
    };
    const group = parentPath(project.path);
    if (group !== undefined) groups.at(group);
    all.push(project);
    return project;
  }

  return {
    add,
    all: () => all,
    at: (path) => all.find((project) => project.path === path),
    find: (idOrPath) => all.find((project) => String(project.id) === idOrPath || project.path === idOrPath),
  };
}

// Far from the ids of projects, so that a client that takes one for the other is found out.
const FIRST_ID = 501;

export interface Groups {
  all(): readonly Group[];
  /** By id or path. */
  find(idOrPath: string): Group | undefined;
  /** The group at `path`, made with those above it where it is new. */
  at(path: string): Group;
}

export function createGroups(): Groups {
  const all: Group[] = [];

  function at(path: string): Group {
    const known = all.find((group) => group.path === path);
    if (known) return known;
    const above = parentPath(path);
    const parentId = above === undefined ? undefined : at(above).id;
    const group = { id: FIRST_ID + all.length, path, parentId };
    all.push(group);
    return group;
  }

  return {
    all: () => all,
    find: (idOrPath) => all.find((group) => String(group.id) === idOrPath || group.path === idOrPath),
    at,
  };
}

/** `group/sub` of `group/sub/project`; undefined at the top. */
export function parentPath(path: string): string | undefined {
  const end = path.lastIndexOf("/");
  return end < 0 ? undefined : path.slice(0, end);
}

/** True for `path` itself and everything below. */
export function isWithin(path: string, group: string): boolean {
  return path === group || path.startsWith(`${group}/`);
}

const nobody = ["-c", "user.name=Demo", "-c", "user.email=demo@example.com"];

/** Where a project's bare repository comes from: files that become its first commit, or a repository to copy. */
type RepositorySource = { readonly files: Readonly<Record<string, string>> } | { readonly copyOf: string };

/** Makes a bare repository at `path`. Returns the branch its HEAD names. The source is only read. */
async function createRepository(path: string, source: RepositorySource): Promise<string> {
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

/** The key that GitLab makes of files: of the commits that last changed them. `default` when there are none. */
export async function keyOfFiles(
  repository: string | undefined,
  sha: string,
  files: readonly string[],
): Promise<string> {
  if (repository === undefined) return "default";
  const lastOf = async (file: string) =>
    (await git(repository, ["log", "-1", "--format=%H", sha, "--", file])).trim();
  const commits = (await Promise.all(files.map(lastOf))).filter((commit) => commit !== "");
  return commits.length === 0 ? "default" : createHash("sha1").update(commits.join()).digest("hex");
}

async function git(repository: string, args: readonly string[]): Promise<string> {
  return await run("git", [`--git-dir=${repository}`, ...args]);
}
