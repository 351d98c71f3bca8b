/** A directory with a `.gitlab-ci.yml`, mostly a Git repository, read as what was just pushed to its default branch. */
import { readFile, realpath } from "node:fs/promises";
import { join, relative, resolve } from "node:path";
import { describeError } from "../base/errors.ts";
import { run } from "../base/process.ts";
import { CiRepositoryError, MAIN_FILE } from "./errors.ts";
import type { ReadFile } from "./include.ts";
import { type Push, plainPush } from "./push.ts";

export interface CiRepository {
  /** Of its `.gitlab-ci.yml`. */
  readonly text: string;
  readonly push: Push;
  readonly readFile: ReadFile;
}

/** The largest file of a pipeline that GitLab reads is 1 MiB by default. */
const MOST_BYTES = 4 * 1024 * 1024;

/**
 * What lies in the directory, also what is not committed; of a bare repository its newest commit. `project` (`group/name`) is what
 * GitLab calls it, by default as the address of its remote `origin` says. Throws CiRepositoryError.
 */
export async function openCiRepository(path: string, project?: string): Promise<CiRepository> {
  const top = await topOf(path);
  const readHere = top.bare ? fileOfCommit(top.directory) : fileOfDirectory(top.directory);
  const text = await readHere(MAIN_FILE);
  if (text === undefined)
    throw new CiRepositoryError(
      `there is no ${MAIN_FILE} in ${top.directory}`,
      "give the directory in which it lies",
    );
  return { text, push: await pushOf(top, project), readFile: readHere };
}

interface Top {
  readonly directory: string;
  readonly isGit: boolean;
  readonly bare: boolean;
}

async function topOf(path: string): Promise<Top> {
  const given = await realpath(resolve(path)).catch((cause) => {
    throw new CiRepositoryError(
      `${path} cannot be read: ${describeError(cause)}`,
      "give the path of a repository",
      {
        cause,
      },
    );
  });
  const bare = await git(given, ["rev-parse", "--is-bare-repository"]);
  if (bare?.trim() === "true") return { directory: given, isGit: true, bare: true };
  const top = await git(given, ["rev-parse", "--show-toplevel"]);
  return { directory: top?.trim() || given, isGit: top !== undefined, bare: false };
}

/** Nothing outside of the directory is read, whatever a link in it says. */
function fileOfDirectory(directory: string): ReadFile {
  return async (name) => {
    const path = await realpath(join(directory, name)).catch(() => undefined);
    if (path === undefined || relative(directory, path).startsWith("..")) return undefined;
    const bytes = await readFile(path).catch(() => undefined);
    return bytes === undefined || bytes.length > MOST_BYTES ? undefined : bytes.toString("utf8");
  };
}

function fileOfCommit(directory: string): ReadFile {
  return async (name) => await readFileAtHead(directory, name).catch(() => undefined);
}

async function pushOf({ directory, isGit }: Top, project: string | undefined): Promise<Push> {
  const remote = isGit ? await git(directory, ["remote", "get-url", "origin"]) : undefined;
  const { host, path } = remoteOf(remote?.trim() ?? "");
  const projectPath = project ?? path ?? plainPush.projectPath;
  const branch = (isGit ? await defaultBranch(directory) : undefined) ?? plainPush.branch;
  const title = isGit ? await git(directory, ["show", "--no-patch", "--format=%s", "HEAD"]) : undefined;
  return {
    branch,
    projectPath,
    variables: {
      ...plainPush.variables,
      ...{ CI_COMMIT_BRANCH: branch, CI_COMMIT_REF_NAME: branch, CI_DEFAULT_BRANCH: branch },
      CI_COMMIT_REF_SLUG: branch.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-"),
      ...{
        CI_COMMIT_REF_PROTECTED: "true",
        CI_COMMIT_TITLE: title?.trim() ?? "",
        CI_PROJECT_PATH: projectPath,
      },
      CI_PROJECT_NAME: projectPath.split("/").at(-1) ?? "",
      CI_PROJECT_NAMESPACE: projectPath.split("/").slice(0, -1).join("/"),
      CI_PROJECT_ROOT_NAMESPACE: projectPath.split("/")[0] ?? "",
      ...(host === undefined ? {} : { CI_SERVER_HOST: host, CI_SERVER_URL: `https://${host}` }),
    },
    files: isGit ? await filesAtHead(directory) : [],
    changes: isGit ? await changesAtHead(directory) : undefined,
  };
}

/** What `origin` calls its default branch, else the one that is checked out. */
async function defaultBranch(directory: string): Promise<string | undefined> {
  const ofRemote = await git(directory, ["symbolic-ref", "--short", "refs/remotes/origin/HEAD"]);
  if (ofRemote !== undefined) return ofRemote.trim().replace(/^origin\//, "");
  return (await git(directory, ["symbolic-ref", "--short", "HEAD"]))?.trim();
}

/** `https://host/group/name.git`, `git@host:group/name.git` and `ssh://…` → host and `group/name`. */
function remoteOf(address: string): { readonly host?: string; readonly path?: string } {
  const [, host, path] =
    /^(?:https?|ssh):\/\/(?:[^/@]*@)?([^/:]+)(?::\d+)?\/(.+?)(?:\.git)?\/?$/.exec(address) ??
    /^(?:[^/@]+@)?([^/:]+):(.+?)(?:\.git)?\/?$/.exec(address) ??
    [];
  return host === undefined || path === undefined ? {} : { host, path };
}

/** Undefined when Git refuses: there is no repository, or it has not what was asked for. */
async function git(directory: string, args: readonly string[]): Promise<string | undefined> {
  return await run("git", ["-C", directory, ...args]).catch(() => undefined);
}

/** Paths of all files of the newest commit; none where there is no commit. */
export async function filesAtHead(directory: string): Promise<string[]> {
  const text = await git(directory, ["ls-tree", "-r", "-z", "--name-only", "--full-tree", "HEAD"]);
  return paths(text ?? "");
}

/** Paths of what the newest commit changed; undefined for a first commit, of which everything is new. */
export async function changesAtHead(directory: string): Promise<string[] | undefined> {
  const text = await git(directory, ["diff", "--no-ext-diff", "-z", "--name-only", "HEAD^", "HEAD"]);
  return text === undefined ? undefined : paths(text);
}

function paths(text: string): string[] {
  return text.split("\0").filter(Boolean);
}

/** The text of a file as the newest commit has it. Rejects where that has none. */
export async function readFileAtHead(directory: string, path: string): Promise<string> {
  return await run("git", ["-C", directory, "show", `HEAD:${path}`]);
}
