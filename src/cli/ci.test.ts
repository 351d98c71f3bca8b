import { execFileSync } from "node:child_process";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../../test/builders/temporary-directory.ts";
import { commandLine } from "../../test/harness/command-line.ts";

test("a directory, a repository with what is not committed, and a bare one are read", async () => {
  await using directory = await temporaryDirectory();
  const work = join(directory.path, "work");
  const bare = join(directory.path, "bare.git");
  await mkdir(work);
  await writeFile(
    join(work, ".gitlab-ci.yml"),
    "a: { script: [x], rules: [{ if: $CI_PROJECT_PATH == 'group/name' }] }\n",
  );
  const names = async (path: string, ...more: string[]) => {
    const { code, out } = await commandLine("ci", "check", path, "--json", ...more);
    const { jobs } = JSON.parse(out) as { jobs: { name: string; starts: boolean }[] };
    return [code, ...jobs.map(({ name, starts }) => `${name} ${starts}`)];
  };
  const git = (...args: string[]) =>
    execFileSync("git", ["-C", work, "-c", "user.name=x", "-c", "user.email=x@example.com", ...args], {
      stdio: "ignore",
    });

  expect(await names(work)).toEqual([0, "a false"]);
  expect(await names(work, "--project", "group/name")).toEqual([0, "a true"]);
  git("init", "-b", "main");
  git("add", "--all");
  git("commit", "-m", "x");
  git("clone", "--bare", work, bare);
  git("remote", "add", "origin", "git@gitlab.example.com:group/name.git");
  await writeFile(
    join(work, ".gitlab-ci.yml"),
    "b: { script: [x], rules: [{ if: $CI_PROJECT_PATH == 'group/name' }] }\n",
  );
  expect(await names(work)).toEqual([0, "b true"]);
  expect((await names(bare)).slice(1)).toEqual(["a false"]);
});

test("a file outside of the repository is not read through a link", async () => {
  await using directory = await temporaryDirectory();
  const work = join(directory.path, "work");
  await mkdir(work);
  await writeFile(join(directory.path, "secret.yml"), "a: { script: [x] }\n");
  await symlink("../secret.yml", join(work, ".gitlab-ci.yml"));

  expect(await commandLine("ci", "check", work)).toMatchObject({
    code: 1,
    err: expect.stringContaining("there is no .gitlab-ci.yml"),
  });
});
