import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import type { ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { gunzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { guestFile } from "../../src/base/guest-files.ts";
import { type RunnerGitLab, startRunnerGitLab } from "../builders/runner-gitlab.ts";
import { listZip, makeZip } from "../builders/zip.ts";

/** A search path on which `bash` is what machines have there. */
function ownShells(folder: string): string {
  copyFileSync(guestFile("job-shell"), join(folder, "bash"));
  return `${folder}:${process.env["PATH"]}`;
}

const program = join(import.meta.dirname, "../../guest/stand-in-runner");

let directory: string;
let gitlab: RunnerGitLab;
let child: ChildProcess | undefined;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "stand-in-"));
});

afterEach(async () => {
  child?.kill("SIGKILL");
  child = undefined;
  await gitlab?.[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

function aJob(script: string[], more: Record<string, unknown> = {}) {
  return {
    id: 7,
    token: "glcbt-jobtoken",
    allow_git_fetch: true,
    job_info: { name: "build", stage: "build" },
    runner_info: { timeout: 60 },
    git_info: {
      repo_url: "http://gitlab.example.com/group/project.git",
      refspecs: [],
      sha: "0",
      ref: "main",
    },
    variables: [{ key: "GIT_STRATEGY", value: "none" }],
    steps: [{ name: "script", script, when: "on_success" }],
    ...more,
  };
}

/** Starts the runner for one job. `projectDirectory` is where the job's files are. */
async function start(
  job: ReturnType<typeof aJob>,
  environment: Record<string, string> = {},
): Promise<{ projectDirectory: string }> {
  gitlab = await startRunnerGitLab(job);
  const args = ["run-single", "--url", gitlab.url, "--executor", "shell", "--max-builds", "1"];
  child = spawn(program, [...args, "--builds-dir", join(directory, "builds"), "--cache-dir", directory], {
    env: {
      ...{ PATH: process.env["PATH"], HOME: directory, CI_SERVER_TOKEN: "glrt-abcdefghijk" },
      ...environment,
    },
    stdio: "ignore",
  });
  return { projectDirectory: join(directory, "builds/abcdefghi/0/group/project") };
}

const trace = () => gitlab.record.trace.toString("utf8");

describe("the stand-in runner", () => {
  test("runs a script, sends the whole log with its checksum, and says success", async () => {
    await start(aJob(["echo hello", 'echo "in $PWD" | sed s,.*/builds/,builds/,']));

    const final = await gitlab.finished;

    expect(final).toMatchObject({ state: "success", token: "glcbt-jobtoken" });
    expect(final).not.toHaveProperty("exit_code");
    expect(trace()).toContain("\u001b[32;1m$ echo hello\u001b[0;m\nhello\n");
    expect(trace()).toContain("builds/abcdefghi/0/group/project\n");
    expect(gitlab.record.states[0]).toMatchObject({ state: "running" });
    expect(gitlab.record.jobRequest).toMatchObject({
      token: "glrt-abcdefghijk",
      info: { executor: "shell", features: { cache: true, refspecs: true, cancel_gracefully: true } },
    });
  });

  test("stops at the first command that fails and reports its exit code, after after_script", async () => {
    const after = { name: "after_script", script: ['echo "after: $CI_JOB_STATUS"'], when: "always" };
    const job = aJob(["(exit 3)", "echo never"]);
    await start({ ...job, steps: [...job.steps, after] });

    expect(await gitlab.finished).toMatchObject({
      state: "failed",
      failure_reason: "script_failure",
      exit_code: 3,
    });
    expect(trace()).toContain("\nafter: failed\n");
    expect(trace()).not.toContain("\nnever\n");
  });

  test("gives the script its variables: raw, expanded, as files, with any characters", async () => {
    const variables = [
      { key: "GIT_STRATEGY", value: "none" },
      { key: "NAME", value: "wörld" },
      // biome-ignore lint/suspicious/noTemplateCurlyInString: the runner is to expand it, not JavaScript
      { key: "EXPANDED", value: "hello ${NAME} $$5" },
      { key: "RAW", value: "hello $NAME", raw: true },
      { key: "QUOTES", value: `it's "so"\nand so`, raw: true },
      { key: "AS_FILE", value: "content $NAME", file: true },
      { key: "bad-name;", value: "x" },
    ];
    await start(aJob(['echo "$EXPANDED|$RAW|$QUOTES|$(cat "$AS_FILE")|$CI_PROJECT_DIR"'], { variables }));

    await gitlab.finished;

    expect(trace()).toContain(
      `\nhello wörld $5|hello $NAME|it's "so"\nand so|content $NAME|${directory}/builds/`,
    );
  });

  test("never shows a masked value, also when it comes in pieces or has the start of another", async () => {
    const variables = [
      { key: "GIT_STRATEGY", value: "none" },
      { key: "SECRET", value: "s3cret-value", masked: true },
      { key: "LONGER", value: "s3cret-value-and-more", masked: true },
    ];
    const script = [
      "printf s3cre; sleep 0.3; printf 't-val'; sleep 0.3; printf 'ue-and'; sleep 0.3; echo ' end'",
      'echo "$LONGER."; printf "last s3cret-val"',
    ];
    await start(aJob(script, { variables }));

    await gitlab.finished;

    expect(trace()).toContain("\n[MASKED]-and end\n");
    expect(trace()).toContain("\n[MASKED].\nlast s3cret-val");
    expect(trace()).not.toContain("s3cret-value");
  });

  test("fetches the wanted commit by the job's refspecs", async () => {
    const repository = join(directory, "repository");
    const git = (...args: string[]) =>
      execFileSync("git", ["-C", repository, "-c", "user.name=a", "-c", "user.email=a@b", ...args], {
        encoding: "utf8",
      });
    mkdirSync(repository);
    git("init", "-q", "-b", "main");
    writeFileSync(join(repository, "file.txt"), "first\n");
    git("add", ".");
    git("commit", "-q", "-m", "first");
    const sha = git("rev-parse", "HEAD").trim();
    writeFileSync(join(repository, "file.txt"), "second\n");
    git("commit", "-q", "-a", "-m", "second");
    await start(
      aJob(["cat file.txt", "git log --oneline | wc -l"], {
        variables: [],
        git_info: {
          repo_url: `file://${repository}`,
          sha,
          ref: "main",
          depth: 20,
          refspecs: ["+refs/heads/main:refs/remotes/origin/main"],
        },
      }),
    );

    expect(await gitlab.finished).toMatchObject({ state: "success" });
    expect(trace()).toContain(`Checking out ${sha.slice(0, 8)} as detached HEAD (ref is main)`);
    expect(trace()).toContain("\nfirst\n");
  });

  test("fails the job when the sources cannot be had, after the wanted number of attempts", async () => {
    await start(
      aJob(["echo never"], {
        variables: [{ key: "GET_SOURCES_ATTEMPTS", value: "2" }],
        git_info: {
          repo_url: `file://${directory}/none`,
          sha: "0",
          ref: "main",
          refspecs: ["+refs/heads/x:refs/x"],
        },
      }),
    );

    expect(await gitlab.finished).toMatchObject({ state: "failed", failure_reason: "script_failure" });
    expect(trace().match(/Fetching changes/g)).toHaveLength(2);
    expect(trace()).not.toContain("\nnever\n");
  });

  test("uploads what the globs name and leaves out what is excluded, with modes and links", async () => {
    const artifacts = [
      {
        name: "pack-$CI_JOB_STAGE",
        paths: ["out/", "**/*.log", "nothing/*"],
        exclude: ["out/**/*.tmp"],
        expire_in: "1 week",
        artifact_type: "archive",
        artifact_format: "zip",
      },
      { paths: ["report.xml"], when: "always", artifact_type: "junit", artifact_format: "gzip" },
      { paths: ["out"], when: "on_failure" },
    ];
    const script = [
      "mkdir -p out/deep && echo a >out/deep/a.txt && echo t >out/deep/x.tmp && echo l >out/deep/b.log && echo l >top.log",
      "printf '#!/bin/sh\\n' >out/run && chmod 755 out/run && ln -s run out/link && echo '<xml/>' >report.xml",
    ];
    const variables = [
      { key: "GIT_STRATEGY", value: "none" },
      { key: "CI_JOB_STAGE", value: "build" },
    ];
    await start(aJob(script, { artifacts, variables }));

    await gitlab.finished;

    const [zip, gzip, ...rest] = gitlab.record.artifacts;
    expect(rest).toEqual([]);
    expect(zip?.filename).toBe("pack-build.zip");
    expect(Object.fromEntries(zip?.query ?? [])).toEqual({
      artifact_format: "zip",
      artifact_type: "archive",
      expire_in: "1 week",
    });
    const members = listZip(zip?.body ?? Buffer.alloc(0));
    const names = members.map(({ name }) => name);
    expect(names).toEqual([
      "out/",
      "out/deep/",
      "out/deep/a.txt",
      "out/deep/b.log",
      "out/link",
      "out/run",
      "top.log",
    ]);
    expect(members).toContainEqual({ name: "out/run", mode: 0o100755, bytes: 10 });
    expect(members).toContainEqual({ name: "out/link", mode: 0o120777, bytes: 3 });
    expect(gunzipSync(gzip?.body ?? "").toString()).toBe("<xml/>\n");
    expect(trace()).toContain("nothing/*: no matching files");
  });

  test("unpacks the artifacts of its dependencies with modes and links, as other programs packed them", async () => {
    const archive = makeZip([
      { name: "dir/run.sh", mode: 0o100755, content: "echo from-artifact\n".repeat(5_000) },
      { name: "dir/link", mode: 0o120777, content: "run.sh" },
    ]);
    const dependencies = [
      { id: 3, name: "first", token: "t3", artifacts_file: { filename: "a.zip", size: 1 } },
    ];
    await start(aJob(["ls -l dir | grep -c -- -\\>", "dir/link | tail -n 1"], { dependencies }));
    gitlab.archives.set(3, archive);
    gitlab.faults.set("GET /api/v4/jobs/3/artifacts", [(response) => response.writeHead(502).end()]);

    expect(await gitlab.finished).toMatchObject({ state: "success" });
    expect(trace()).toContain("\n1\n");
    expect(trace()).toContain("\nfrom-artifact\n");
  });

  test("does not let an artifact write outside of the project", async () => {
    const outside = join(directory, "outside");
    mkdirSync(outside);
    const archive = makeZip([
      { name: "out", mode: 0o120777, content: outside },
      { name: "out/evil", mode: 0o100644, content: "x" },
    ]);
    const dependencies = [
      { id: 3, name: "first", token: "t3", artifacts_file: { filename: "a.zip", size: 1 } },
    ];
    await start(aJob(["echo never"], { dependencies }));
    gitlab.archives.set(3, archive);

    expect(await gitlab.finished).toMatchObject({ state: "failed" });
    expect(trace()).toContain("leads out of the project");
    expect(existsSync(join(outside, "evil"))).toBe(false);
  });

  test("ends a script that takes longer than the job may", async () => {
    await start(aJob(["trap '' TERM", "sleep 60 & sleep 60"], { runner_info: { timeout: 2 } }));

    expect(await gitlab.finished).toMatchObject({ state: "failed", failure_reason: "job_execution_timeout" });
    expect(trace()).toContain("execution took longer than 2s");
  });

  test("kills the script at once when the job is canceled, without after_script", async () => {
    const job = aJob(["touch started", "while true; do echo tick; sleep 0.2; done"]);
    const after = { name: "after_script", script: ["touch after"], when: "always" };
    const { projectDirectory } = await start({ ...job, steps: [...job.steps, after] });
    await expect.poll(() => existsSync(join(projectDirectory, "started")), { timeout: 10_000 }).toBe(true);

    gitlab.jobStatus = "canceled";
    await new Promise((resolve) => child?.on("exit", resolve));

    expect(gitlab.record.states.at(-1)).toMatchObject({ state: "failed" });
    expect(existsSync(join(projectDirectory, "after"))).toBe(false);
  });

  test("runs after_script when the job is being canceled, and then ends it", async () => {
    const job = aJob(["touch started", "while true; do echo tick; sleep 0.2; done"]);
    const after = { name: "after_script", script: ['echo "after: $CI_JOB_STATUS"'], when: "always" };
    const { projectDirectory } = await start({ ...job, steps: [...job.steps, after] });
    await expect.poll(() => existsSync(join(projectDirectory, "started")), { timeout: 10_000 }).toBe(true);

    gitlab.jobStatus = "canceling";

    expect(await gitlab.finished).toMatchObject({ state: "failed" });
    expect(trace()).toContain("\nafter: canceled\n");
  });

  test("repeats what GitLab did not take: a failed PATCH, a wrong offset, a 500 and a 202 for the end", async () => {
    const again = (status: number) => (response: ServerResponse) =>
      response.writeHead(status, { "x-gitlab-trace-update-interval": "1" }).end();
    const wrongPlace = (response: ServerResponse) => response.writeHead(416, { range: "0-0" }).end();
    const job = aJob(["echo one"]);
    await start(job);
    gitlab.faults.set("PATCH /api/v4/jobs/7/trace", [again(502), wrongPlace]);
    gitlab.faults.set("PUT /api/v4/jobs/7", [
      (response) => response.writeHead(200).end(),
      again(500),
      again(202),
    ]);

    expect(await gitlab.finished).toMatchObject({ state: "success" });
    expect(trace().match(/\none\n/g)).toHaveLength(1);
  });

  test("has no token of its own in the environment of scripts", async () => {
    await start(aJob(["env | grep -c glrt- || true"]));

    await gitlab.finished;

    expect(trace()).toContain("\n0\n");
  });

  test("keeps file variables to itself", async () => {
    const variables = [
      { key: "GIT_STRATEGY", value: "none" },
      { key: "KEY", value: "secret", file: true },
    ];
    const { projectDirectory } = await start(aJob(["true"], { variables }));

    await gitlab.finished;

    expect(statSync(`${projectDirectory}.tmp`).mode & 0o77).toBe(0);
  });

  test("takes a stage for ended when nobody holds its output any more, as the official runner does", async () => {
    const { projectDirectory } = await start(
      aJob(["(until [ -e go ]; do sleep 0.05; done) &", "echo STARTED"]),
    );
    await expect.poll(() => existsSync(projectDirectory), { timeout: 10_000 }).toBe(true);
    const first = await Promise.race([gitlab.finished, sleep(1_500, "still running")]);
    writeFileSync(join(projectDirectory, "go"), "");

    expect(first).toBe("still running");
    expect(await gitlab.finished).toMatchObject({ state: "success" });
  });

  test("does not wait for a background process when its shell is ours, and later stages run", async () => {
    const after = { name: "after_script", script: ["echo after", "kill $(cat pid)"], when: "always" };
    const job = aJob(["sleep 300 &", "echo $! >pid", "echo STARTED"]);
    await start({ ...job, steps: [...job.steps, after] }, { PATH: ownShells(directory) });

    expect(await gitlab.finished).toMatchObject({ state: "success" });
    expect(trace()).toMatch(/\nSTARTED\n[\s\S]*\nafter\n/);
  });

  test("gives a job the folder it wants below the builds' own, where that is allowed", async () => {
    const wanted = (value: string) => [
      { key: "GIT_STRATEGY", value: "none" },
      { key: "GIT_CLONE_PATH", value },
    ];
    const builds = join(directory, "builds");

    // biome-ignore lint/suspicious/noTemplateCurlyInString: the runner is to expand it, not JavaScript
    await start(aJob(["pwd"], { variables: wanted("${CI_BUILDS_DIR}/mine/x") }), {
      CUSTOM_BUILD_DIR_ENABLED: "true",
    });
    await gitlab.finished;

    expect(trace()).toContain(`\n${builds}/mine/x\n`);
  });

  test.each([
    ["", "$CI_BUILDS_DIR/x", "not allowed"],
    ["true", "/etc/x", "has to be within"],
    ["true", "$CI_BUILDS_DIR/../x", "has to be within"],
  ])("with custom folders %j refuses a job that wants %s", async (enabled, value, words) => {
    const variables = [{ key: "GIT_CLONE_PATH", value }];

    await start(aJob(["echo never"], { variables }), { CUSTOM_BUILD_DIR_ENABLED: enabled });

    expect(await gitlab.finished).toMatchObject({
      state: "failed",
      failure_reason: "runner_configuration_error",
    });
    expect(trace()).toContain(words);
  });

  test("collects no more of a log than it is told, says so, and goes on with the job", async () => {
    await start(aJob(["head -c 5000 /dev/zero | tr '\\0' x", "echo too late"]), { RUNNER_OUTPUT_LIMIT: "2" });

    expect(await gitlab.finished).toMatchObject({ state: "success" });
    expect(trace()).toContain("Job's log exceeded limit of 2048 bytes.");
    expect(trace()).not.toContain("\ntoo late");
  });
});
