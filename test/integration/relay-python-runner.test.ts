import { existsSync } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, expect, test } from "vitest";
import { run } from "../../src/base/process.ts";
import { createRelayBench, type RelayBench } from "./relay-bench.ts";

/**
 * A runner that others wrote, from the protocol alone, works through the relay as it does against GitLab: it knows nothing of
 * machines and speaks TCP, so a loopback port leads to the machine's socket.
 */
const packages = ["gitlab-python-runner==14.3.20", "gitlab-emulator==1.1.9"];

const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
const environment = join(cache, "firerunner-tests", packages.join("+").replaceAll("==", "-"));
const python = join(environment, "bin", "python");

let bench: RelayBench | undefined;

beforeAll(installRunner, 240_000);

afterEach(async () => {
  await bench?.close();
  bench = undefined;
});

/** Once per computer; a half-made environment is never used. */
async function installRunner(): Promise<void> {
  if (existsSync(python)) return;
  const unfinished = `${environment}.${process.pid}`;
  await mkdir(unfinished, { recursive: true });
  try {
    await run("python3", ["-m", "venv", unfinished]);
    const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    await run(join(unfinished, "bin", "python"), [...pip, ...packages]);
    await rename(unfinished, environment).catch((error: unknown) => {
      if (!existsSync(python)) throw error;
    });
  } finally {
    await rm(unfinished, { recursive: true, force: true });
  }
}

const ciFile = `
pack:
  script:
    - echo "made by $GITLAB_USER_LOGIN in a machine" > result.txt
    - cat README.md
  artifacts:
    paths:
      - result.txt
`;

test("an independent runner brings a job to success, with its log and its artifact", {
  timeout: 120_000,
}, async () => {
  bench = await createRelayBench({ settings: { updatesPerMinute: 150 } });
  const { gitlab, store, directory } = bench;
  const repository = { files: { ".gitlab-ci.yml": ciFile, "README.md": "read me first\n" } };
  const project = await gitlab.projects.add({ path: "group/with-git", repository });
  const artifacts = { paths: ["result.txt"], exclude: [], untracked: false, when: "on_success" } as const;
  const machine = await bench.machine({ name: "pack", artifacts }, undefined, project);
  const builds = join(directory, "builds");
  await mkdir(builds);
  const config = {
    server: machine.url,
    token: machine.machineToken,
    executor: "shell",
    shell: "bash",
    dir: builds,
  };
  // JSON is YAML too.
  await writeFile(join(directory, "config.yml"), JSON.stringify(config));

  await run(python, ["-m", "GitlabPyRunner", "--start", join(directory, "config.yml"), "--once"], {
    cwd: builds,
    env: { PATH: process.env["PATH"], HOME: directory, GIT_TERMINAL_PROMPT: "0", SHELL: "/bin/bash" },
    signal: AbortSignal.timeout(90_000),
  });

  const log = machine.job.trace.text();
  expect(machine.job.status).toBe("success");
  expect(log).toMatch(/^\S*FireRunner: machine fr-/);
  expect(log).toContain("read me first");
  expect(log).toContain("Job complete success=True");
  expect(machine.job.artifacts).toMatchObject([{ type: "archive", format: "zip" }]);
  expect(await store.job(machine.job.id)).toMatchObject({ state: "finished", result: "success" });
  expect(gitlab.violations).toEqual([]);
});
