import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { run } from "../../../src/base/process.ts";
import type { Project } from "./model.ts";
import { createStandInGitLab, type StandInGitLab } from "./stand-in.ts";
import { createRunnerDouble, type RunnerDouble } from "./test-clients.ts";

let gitlab: StandInGitLab;
let client: RunnerDouble;
let project: Project;
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-git-"));
  gitlab = createStandInGitLab();
  await gitlab.listen();
  client = createRunnerDouble(gitlab.url);
  const files = { "README.md": "# hello\n", "src/big.txt": "0123456789\n".repeat(100_000) };
  project = await gitlab.projects.add({ repository: { files } });
});

afterEach(async () => {
  await client.close();
  await gitlab.close();
  await rm(directory, { recursive: true, force: true });
});

async function claim() {
  const runner = gitlab.runners.add({});
  const job = await gitlab.addJob(project);
  const { token, payload } = await client.claim(runner.token);
  return { job, token, info: payload["git_info"] as { repo_url: string; refspecs: string[]; sha: string } };
}

function git(...args: string[]): Promise<string> {
  return run("git", ["-C", directory, ...args], {
    env: { PATH: "/usr/bin:/bin", GIT_TERMINAL_PROMPT: "0", HOME: directory },
  });
}

test("a runner fetches the pipeline's ref with the job's token, shallow, and gets the files", async () => {
  const { info } = await claim();
  await git("init", "--quiet");
  await git("fetch", "--quiet", "--depth", "20", info.repo_url, ...info.refspecs);
  await git("checkout", "--quiet", info.sha);

  expect(await readFile(join(directory, "README.md"), "utf8")).toBe("# hello\n");
  const statuses = gitlab.requests.filter((record) => record.route === "git").map((record) => record.status);
  expect(statuses[0]).toBe(401);
  expect(statuses.slice(1).every((status) => status === 200)).toBe(true);
  expect(gitlab.violations).toEqual([]);
});

test("other tokens, ended jobs and pushes are refused", async () => {
  const { job, info } = await claim();
  const wrong = new URL(info.repo_url);
  wrong.password = "glcbt-wrong";
  await expect(git("ls-remote", wrong.href)).rejects.toThrow(/Authentication failed|denied/);
  await git("init", "--quiet", "--initial-branch=main");
  await git(
    "-c",
    "user.name=a",
    "-c",
    "user.email=a@example.com",
    "commit",
    "--quiet",
    "--allow-empty",
    "-m",
    "x",
  );
  await expect(git("push", "--quiet", info.repo_url, "HEAD:refs/heads/x")).rejects.toThrow(/403/);
  gitlab.jobs.end(job, { status: "success" });
  await expect(git("ls-remote", info.repo_url)).rejects.toThrow(/Authentication failed|denied/);

  expect(new Set(gitlab.violations.map((violation) => violation.rule))).toEqual(new Set(["wrong-token"]));
});

test("a user's own repository is copied, not changed", async () => {
  const source = join(directory, "mine");
  await run("git", ["init", "--quiet", "--initial-branch=trunk", source]);
  await run("git", [
    "-C",
    source,
    "-c",
    "user.name=a",
    "-c",
    "user.email=a@example.com",
    "commit",
    "--quiet",
    "--allow-empty",
    "-m",
    "x",
  ]);
  const copied = await gitlab.projects.add({ repository: { copyOf: source } });
  const job = await gitlab.addJob(copied);
  const refs = await run("git", ["-C", source, "for-each-ref", "--format=%(refname)"]);

  expect([copied.defaultBranch, refs.trim()]).toEqual(["trunk", "refs/heads/trunk"]);
  expect(job.pipeline.sha).toMatch(/^[0-9a-f]{40}$/);
});

test("an address without .git is answered with a redirect, for Git's own handshakes only", async () => {
  const ask = (path: string, method: "GET" | "POST" = "GET") => client.call(method, path);
  const handshake = "/group/project/info/refs?service=git-upload-pack";
  const answers = await Promise.all([
    ask(handshake),
    ask("/group/nothing/info/refs"),
    ask("/group/project/info/refs?service=git-upload-archive"),
    ask("/group/project/git-upload-pack", "POST"),
  ]);

  expect(answers.map(({ status }) => status)).toEqual([301, 301, 404, 404]);
  expect(answers[0]?.headers["location"]).toBe(
    `${gitlab.url}/group/project.git/info/refs?service=git-upload-pack`,
  );
});

test("another project is read with a job's token only where that job's project is allowed to", async () => {
  const files = { "README.md": "# other\n" };
  const allowed = await gitlab.projects.add({ jobTokenAllowlist: [project.path], repository: { files } });
  const closed = await gitlab.projects.add({ repository: { files } });
  const { info } = await claim();
  const at = (path: string) => info.repo_url.replace(project.path, path);

  await expect(git("ls-remote", at(allowed.path))).resolves.toContain("refs/heads/main");
  await expect(git("ls-remote", at(closed.path))).rejects.toThrow(/not found/);
});
