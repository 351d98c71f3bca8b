import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Project } from "@firerunner/gitlab-stand-in/model";
import { createRunnerDouble } from "@firerunner/gitlab-stand-in/test-clients";
import { afterEach, beforeEach, expect, test } from "vitest";
import { run } from "../../src/base/process.ts";
import { createRelayBench, type RelayBench } from "./relay-bench.ts";

const APP = "group/app";
const identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"];

let bench: RelayBench;
let env: Record<string, string>;
let home: string;

beforeEach(async () => {
  bench = await createRelayBench();
  home = join(bench.directory, "home");
  await mkdir(home);
});

afterEach(async () => {
  await bench.close();
});

async function library(path: string, jobTokenAllowlist: readonly string[] = [APP]): Promise<Project> {
  const files = { "lib.txt": `this is ${path}\n` };
  return await bench.gitlab.projects.add({ path, jobTokenAllowlist, repository: { files } });
}

/** A project whose submodules have these addresses, each at the newest commit of its project. */
async function appWith(submodules: readonly (readonly [string, Project])[]): Promise<Project> {
  const tree = join(bench.directory, "tree");
  const git = (...args: string[]) => run("git", ["-C", tree, ...identity, ...args]);
  await run("git", ["init", "--quiet", "--initial-branch=main", tree]);
  for (const [index, [url, { repository = "" }]] of submodules.entries()) {
    const commit = (await run("git", [`--git-dir=${repository}`, "rev-parse", "HEAD"])).trim();
    await git("config", "-f", ".gitmodules", `submodule.s${index}.path`, `s${index}`);
    await git("config", "-f", ".gitmodules", `submodule.s${index}.url`, url);
    await git("update-index", "--add", "--cacheinfo", `160000,${commit},s${index}`);
  }
  if (submodules.length > 0) await git("add", ".gitmodules");
  await git("commit", "--quiet", "--allow-empty", "-m", "Start");
  return await bench.gitlab.projects.add({ path: APP, repository: { copyOf: tree } });
}

/**
 * Claims the project's job as its guest would, and gives its git the job's variables. The relay is `localhost` here and GitLab is not: whoever
 * asks GitLab itself goes to a proxy where nobody listens, as in a machine without egress.
 */
async function start(project: Project, variables: Record<string, string> = {}) {
  const machine = await bench.machine({ variables }, undefined, project);
  const guest = createRunnerDouble(machine.url.replace("127.0.0.1", "localhost"));
  const { payload } = await guest.claim(machine.machineToken);
  await guest.close();
  const given = payload["variables"] as { key: string; value: string }[];
  env = {
    ...Object.fromEntries(given.map(({ key, value }) => [key, value])),
    ...{ PATH: process.env["PATH"] ?? "", HOME: home, GIT_TERMINAL_PROMPT: "0", GIT_CONFIG_NOSYSTEM: "1" },
    ...{ http_proxy: "http://127.0.0.1:9", no_proxy: "localhost" },
  };
  return { machine, repoUrl: (payload["git_info"] as { repo_url: string }).repo_url };
}

const guestGit = (...args: string[]) => run("git", args, { env });

test("submodules of every form are fetched through the relay with the job's token, without other network", async () => {
  const lib = await library("group/lib");
  const own = bench.gitlab.url;
  const forms = [
    "../lib.git",
    "../lib",
    `${own}/group/lib.git`,
    `${own}/group/lib`,
    "ssh://git@127.0.0.1/group/lib.git",
    "ssh://git@127.0.0.1:22/group/lib",
    "git@127.0.0.1:group/lib.git",
    "git@127.0.0.1:group/lib",
  ];
  const app = await appWith(forms.map((form) => [form, lib]));
  const { repoUrl, machine } = await start(app, { GIT_SUBMODULE_FORCE_HTTPS: "true" });
  const clone = join(home, "clone");
  await guestGit("clone", "--quiet", repoUrl, clone);
  await guestGit("-C", clone, "submodule", "--quiet", "update", "--init", "--recursive");
  const texts = await Promise.all(
    forms.map((_, index) => readFile(join(clone, `s${index}/lib.txt`), "utf8")),
  );

  expect(texts).toEqual(forms.map(() => "this is group/lib\n"));
  expect(bench.gitlab.violations).toEqual([]);
  const kept = await Promise.all(
    forms.slice(2).map((_, index) => readFile(join(clone, `.git/modules/s${index + 2}/config`), "utf8")),
  );
  expect(kept.filter((text) => text.includes(machine.token))).toEqual([]);
});

test("a script clones by GitLab's own name, with the job's token written into the address or not", async () => {
  await library("group/lib");
  const { machine } = await start(await appWith([]));
  const own = bench.gitlab.url;
  const plain = `${own}/group/lib.git`;
  await guestGit("clone", "--quiet", plain, join(home, "plain"));
  await guestGit(
    "clone",
    "--quiet",
    plain.replace("//", `//gitlab-ci-token:${machine.token}@`),
    join(home, "token"),
  );
  await guestGit("clone", "--quiet", env["CI_REPOSITORY_URL"] ?? "", join(home, "self"));

  expect(await readFile(join(home, "token/lib.txt"), "utf8")).toBe("this is group/lib\n");
  expect((await guestGit("-C", join(home, "plain"), "config", "remote.origin.url")).trim()).toBe(plain);
});

test("a project that does not let the job read it stays closed", async () => {
  await library("group/closed", []);
  await start(await appWith([]));

  await expect(
    guestGit("clone", "--quiet", `${bench.gitlab.url}/group/closed`, join(home, "x")),
  ).rejects.toThrow(/not found/);
});

test("credentials of the job's own are not replaced by the job's token", async () => {
  await library("group/lib");
  const { machine } = await start(await appWith([]));
  const own = bench.gitlab.url;
  const withOthers = `${own.replace("//", "//oauth2:glpat-of-a-user@")}/group/lib.git`;
  await guestGit(
    "config",
    "--global",
    `url.${own.replace("//", "//deploy:of-the-team@")}/.insteadOf`,
    `${own}/`,
  );
  const failures = await Promise.all(
    [withOthers, `${own}/group/lib.git`].map((url) =>
      promisify(execFile)("git", ["ls-remote", url], { env: { ...env, GIT_CURL_VERBOSE: "1" } }).then(
        () => "",
        (error: { stderr: string }) => error.stderr,
      ),
    ),
  );

  // Neither is sent by way of the relay, and so neither gets the job's token.
  expect(failures).toEqual([
    expect.stringContaining("127.0.0.1 port 9"),
    expect.stringContaining("127.0.0.1 port 9"),
  ]);
  expect(failures.join("")).not.toContain(Buffer.from(`gitlab-ci-token:${machine.token}`).toString("base64"));
});

test("large files come through the relay too, for a clone by GitLab's own name and for a submodule", async () => {
  const file = randomBytes(300_000);
  const oid = createHash("sha256").update(file).digest("hex");
  const lib = await bench.gitlab.projects.add({
    path: "group/large",
    jobTokenAllowlist: [APP],
    largeFiles: [file],
    repository: {
      files: {
        ".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n",
        "a.bin": `version https://git-lfs.github.com/spec/v1\noid sha256:${oid}\nsize ${file.length}\n`,
      },
    },
  });
  const { repoUrl } = await start(await appWith([[`${bench.gitlab.url}/group/large`, lib]]));
  await guestGit("lfs", "install", "--skip-repo");
  await guestGit("clone", "--quiet", `${bench.gitlab.url}/group/large.git`, join(home, "large"));
  await guestGit("clone", "--quiet", "--recurse-submodules", repoUrl, join(home, "app"));
  const fetched = await Promise.all(
    ["large/a.bin", "app/s0/a.bin"].map((path) => readFile(join(home, path))),
  );

  expect(fetched.map((bytes) => bytes.equals(file))).toEqual([true, true]);
  expect(bench.gitlab.violations).toEqual([]);
});
