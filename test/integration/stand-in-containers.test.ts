import { type ChildProcess, spawn } from "node:child_process";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { guestFile } from "../../src/base/guest-files.ts";
import { type RunnerGitLab, startRunnerGitLab } from "../builders/runner-gitlab.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import { type ContainerEngine, startContainerEngine } from "../servers/container-engine.ts";

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let engine: ContainerEngine;
let gitlab: RunnerGitLab | undefined;
let child: ChildProcess | undefined;
let service: Server;
let port = 0;

beforeEach(async () => {
  directory = await temporaryDirectory();
  service = createServer((socket) => socket.end());
  await new Promise<void>((resolve) => service.listen(0, "127.0.0.1", resolve));
  port = (service.address() as { port: number }).port;
  const images = {
    "node:24": {},
    "registry.example.com/db/pg:16": { ports: [port] },
  };
  engine = await startContainerEngine(join(directory.path, "engine.sock"), images);
});

afterEach(async () => {
  child?.kill("SIGKILL");
  await gitlab?.[Symbol.asyncDispose]();
  await engine[Symbol.asyncDispose]();
  service.close();
  await directory[Symbol.asyncDispose]();
});

/** Runs the job and gives the final state and the log. */
async function run(
  more: Record<string, unknown>,
  flags: readonly string[] = [],
): Promise<{ final: Record<string, unknown>; log: string }> {
  const job = {
    id: 7,
    token: "glcbt-jobtoken",
    runner_info: { timeout: 60 },
    git_info: {
      repo_url: "http://gitlab.example.com/group/project.git",
      refspecs: [],
      sha: "0",
      ref: "main",
    },
    variables: [
      { key: "GIT_STRATEGY", value: "none" },
      { key: "TAG", value: "24", public: true },
      { key: "SECRET", value: "s3cret" },
    ],
    image: { name: "node:$TAG" },
    steps: [{ name: "script", script: ["echo hello"], when: "on_success" }],
    ...more,
  };
  gitlab = await startRunnerGitLab(job);
  const args = ["run-single", "--url", gitlab.url, "--executor", "docker", "--docker-privileged"];
  args.push("--docker-host", `unix://${join(directory.path, "engine.sock")}`, "--env", "OF_RUNNER=a,b");
  args.push("--docker-allowed-pull-policies", "always", "--docker-allowed-pull-policies", "never");
  child = spawn(
    guestFile("stand-in-runner"),
    [...args, ...flags, "--builds-dir", join(directory.path, "builds")],
    {
      env: { PATH: process.env["PATH"], HOME: directory.path, CI_SERVER_TOKEN: "glrt-abcdefghijk" },
      stdio: "ignore",
    },
  );
  const final = await gitlab.finished;
  return { final, log: gitlab.record.trace.toString("utf8") };
}

describe("the stand-in runner with containers", () => {
  test("says that it can run images and services, and runs the script in the container of the job's image", async () => {
    const { final, log } = await run({
      steps: [
        {
          name: "script",
          script: ['echo "$TAG in $PWD" | sed s,/.*builds/,builds/,', "echo kept > file"],
          when: "on_success",
        },
        { name: "after_script", script: ["cat file; echo $CI_JOB_STATUS $OF_RUNNER"], when: "always" },
      ],
    });

    expect(final).toMatchObject({ state: "success" });
    expect(gitlab?.record.jobRequest).toMatchObject({
      info: { executor: "docker", features: { image: true, services: true, cache: true } },
    });
    expect(log).toContain("Using Docker executor with image node:24");
    expect(log).toContain("24 in builds/abcdefghi/0/group/project");
    expect(log).toContain("kept\nsuccess a,b\n");
    const builds = join(directory.path, "builds");
    expect(engine.created).toMatchObject([
      { Image: "node:24", HostConfig: { Privileged: true, Binds: [`${builds}:${builds}`] } },
    ]);
    // One container for both scripts, as the official runner has it.
    expect(engine.requests.filter((each) => each.endsWith("/start"))).toHaveLength(2);
  });

  test("gives the exit status of the script", async () => {
    const { final } = await run({ steps: [{ name: "script", script: ["exit 7"], when: "on_success" }] });

    expect(final).toMatchObject({ state: "failed", failure_reason: "script_failure", exit_code: 7 });
  });

  test("passes entrypoint and user on, and lets a script of any length through", async () => {
    const long = `echo ${"x".repeat(300_000)} | wc -c`;
    const { log } = await run({
      image: {
        name: "node:24",
        entrypoint: ["env", "ENTERED=yes"],
        executor_opts: { docker: { user: "1000" } },
      },
      steps: [{ name: "script", script: ["echo entered $ENTERED", long], when: "on_success" }],
    });

    expect(engine.created).toMatchObject([{ User: "1000", Entrypoint: ["env", "ENTERED=yes"] }]);
    expect(log).toContain("entered yes");
    expect(log).toContain("300001");
  });

  test("starts services first, with their variables and the job's public ones, and gives the job their names", async () => {
    const { final } = await run({
      services: [
        {
          name: "registry.example.com/db/pg:16",
          alias: "db, database",
          command: ["true", "-c"],
          variables: [{ key: "PASSWORD", value: "of-$TAG" }],
        },
      ],
    });

    expect(final).toMatchObject({ state: "success" });
    const [pg, job] = engine.created;
    expect(pg).toMatchObject({ Image: "registry.example.com/db/pg:16", Cmd: ["true", "-c"] });
    expect(pg?.Env).toEqual(["PASSWORD=of-24", "TAG=24"]);
    expect(job?.HostConfig.ExtraHosts).toEqual(
      ["db", "database", "registry.example.com__db__pg", "registry.example.com-db-pg"].map(
        (name) => `${name}:127.0.0.1`,
      ),
    );
  });

  test("ends the job when an image is nowhere, in words", async () => {
    const { final, log } = await run({ image: { name: "gone:1" } });
    expect(final).toMatchObject({ state: "failed", failure_reason: "runner_system_failure" });
    expect(log).toContain("the image gone:1 could not be pulled: no registry can be reached");
  });

  test("does not pull what the job forbids to pull", async () => {
    const { final, log } = await run({ image: { name: "gone:1", pull_policy: ["never"] } });
    expect(final).toMatchObject({ state: "failed" });
    expect(log).toContain("the image gone:1 is not here, and is not to be pulled");
    expect(engine.requests.some((each) => each.includes("/images/create"))).toBe(false);
  });

  test("sets the runner's own scripts around the job's, in its shell, and gives it the runner's volumes", async () => {
    const flags = [
      "--pre-get-sources-script",
      "echo before sources",
      "--pre-build-script",
      "WORD=kept\necho before",
    ];
    flags.push("--post-build-script", "echo after $WORD", "--docker-volumes", "/cache");
    flags.push("--docker-volumes", "/run/podman.sock:/var/run/docker.sock");
    const steps = [
      { name: "script", script: ["echo script $WORD"], when: "on_success" },
      { name: "after_script", script: ["echo afterwards $WORD."], when: "always" },
    ];

    const { final, log } = await run({ steps }, flags);

    expect(final).toMatchObject({ state: "success" });
    const said = log.split("\n").filter((line) => /^(before|script|after)/.test(line));
    expect(said).toEqual(["before", "script kept", "after kept", "afterwards ."]);
    expect(engine.created[0]?.HostConfig.Binds).toContain("/run/podman.sock:/var/run/docker.sock");
    expect(engine.created[0]?.HostConfig.Binds).not.toContain("/cache");
  });
});
