import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Daemon } from "../harness/daemon.ts";
import { createInstallation, type Installation } from "../harness/installation.ts";

const BOOT_AND_RUN_MS = 120_000;

describe("jobs in real machines", () => {
  let installation: Installation;
  let daemon: Daemon;

  beforeAll(async () => {
    installation = await createInstallation();
    daemon = await installation.start();
  });

  afterAll(async () => {
    await daemon?.stop();
    await installation?.expectNothingLeft();
    await installation?.close();
  });

  test.concurrent("a pipeline clones, passes an artifact on and ends with the truth", async () => {
    const { gitlab } = installation;
    const project = await gitlab.projects.add({
      path: "group/pipeline",
      repository: { files: { "word.txt": "from git\n" } },
    });
    const base = { timeoutSeconds: 600 };
    const build = await gitlab.addJob(project, {
      ...base,
      name: "build",
      script: ["mkdir out", "cat word.txt > out/artifact.txt", 'echo "on $(hostname) with $(nproc) cpu"'],
      artifacts: { paths: ["out/"], exclude: [], untracked: false, when: "on_success" },
    });
    const fails = await gitlab.addJob(project, {
      ...base,
      name: "fails",
      script: ["echo about to fail", "exit 7"],
    });

    await gitlab.waitForJob(build, "success", BOOT_AND_RUN_MS);
    await gitlab.waitForJob(fails, "failed", BOOT_AND_RUN_MS);

    expect(build.trace.text()).toMatch(/on fr-[a-z2-7]{8} with 1 cpu/);
    expect(build.trace.text()).toContain("1 CPU, 512 MiB");
    expect(build.artifacts).toHaveLength(1);
    expect(build.traceCheck?.matches).toBe(true);
    expect(fails).toMatchObject({ failureReason: "script_failure", exitCode: 7 });
    expect(gitlab.violations).toEqual([]);
  });

  test.concurrent("a background process does not hold its job, and a project has one path unless the job wants another", async () => {
    const { gitlab } = installation;
    const repository = { files: { "word.txt": "from git\n" } };
    const project = await gitlab.projects.add({ path: "group/sub/paths", repository });
    const script = ["sleep 300 &", "echo STARTED in $PWD"];

    const usual = await gitlab.addJob(project, { script });
    const wanted = await gitlab.addJob(project, {
      script,
      variables: { GIT_CLONE_PATH: "$CI_BUILDS_DIR/x" },
    });
    await gitlab.waitForJob(usual, "success", BOOT_AND_RUN_MS);
    await gitlab.waitForJob(wanted, "success", BOOT_AND_RUN_MS);

    expect(usual.trace.text()).toContain("STARTED in /builds/group/sub/paths\n");
    expect(wanted.trace.text()).toContain("STARTED in /builds/x\n");
  });

  test.concurrent("an image: that the shell executor ignores is named in the job's log, and how much memory and disk a job used is known", async () => {
    const { gitlab } = installation;
    const project = await gitlab.projects.add({ path: "group/image" });

    const job = await gitlab.addJob(project, {
      script: [
        "echo ran anyway",
        // For some seconds 80 MiB of memory, and as much of the disk.
        "head -c 80M /dev/zero > large",
        "cat large | tail -c 80M | (sleep 6; wc -c)",
        "rm large",
      ],
      image: { name: "ruby:3.3" },
      variables: { GIT_STRATEGY: "none" },
    });
    await gitlab.waitForJob(job, "success", BOOT_AND_RUN_MS);

    expect(job.trace.text()).toContain("ruby:3.3");
    expect(job.trace.text()).toContain("ran anyway");
    const seen = (await daemon.jobs()).find(({ id }) => id === job.id);
    expect(seen?.peakMemoryMib).toBeGreaterThan(130);
    expect(seen?.peakMemoryMib).toBeLessThanOrEqual(seen?.size.memoryMib ?? 0);
    expect(seen?.peakDiskMib).toBeGreaterThanOrEqual(80);
    expect(seen?.peakDiskMib).toBeLessThan(300);
  });

  test.concurrent("a cache is there for the next job, and neither for another branch nor for another project, whatever they ask for", async () => {
    const { gitlab } = installation;
    const project = await gitlab.projects.add({ path: "group/cached" });
    const other = await gitlab.projects.add({ path: "group/curious" });
    const usual = { paths: ["out/"], untracked: false, policy: "pull-push", when: "on_success" } as const;
    const cache = { ...usual, key: "deps", unprotect: false, fallbackKeys: [] };
    const definition = { caches: [cache], variables: { GIT_STRATEGY: "none" } };
    const script = [
      "cat out/word || echo nothing is kept",
      "mkdir -p out",
      "echo kept by $CI_JOB_ID > out/word",
    ];
    const path = `/firerunner-cache/project/${project.id}/deps-protected`;
    const asking = [
      `exec 3<>/dev/tcp/10.0.2.100/80; printf 'GET ${path} HTTP/1.1\\r\\nHost: r\\r\\nConnection: close\\r\\n\\r\\n' >&3`,
      "head -1 <&3",
    ];

    const first = await gitlab.addJob(project, { ...definition, script });
    await gitlab.waitForJob(first, "success", BOOT_AND_RUN_MS);
    const next = await gitlab.addJob(project, { ...definition, script });
    const branch = await gitlab.addJob(
      project,
      { ...definition, script: [...script, ...asking] },
      { protectedRef: false },
    );
    const stranger = await gitlab.addJob(other, { ...definition, script: asking });
    for (const job of [next, branch, stranger]) await gitlab.waitForJob(job, "success", 2 * BOOT_AND_RUN_MS);

    expect(first.trace.text()).toContain("nothing is kept\n");
    expect(next.trace.text()).toContain(`kept by ${first.id}\n`);
    expect(branch.trace.text()).toMatch(/nothing is kept\n[\s\S]*HTTP\/1\.1 404 /);
    expect(stranger.trace.text()).toContain("HTTP/1.1 403 ");
  });

  // Alone: it looks for whatever is left of any machine.
  test("a cancel in mid-flight frees the machine, also of a silent script", async () => {
    const { gitlab } = installation;
    const project = await gitlab.projects.add({ path: "group/cancel" });
    const job = await gitlab.addJob(project, {
      script: ["echo started", "sleep 600"],
      variables: { GIT_STRATEGY: "none" },
    });
    await gitlab.waitForJob(job, ({ trace }) => trace.text().includes("started\n"), BOOT_AND_RUN_MS);

    gitlab.jobs.cancel(job);
    await gitlab.waitForJob(job, "canceled", 30_000);
    await installation.expectNothingLeft();

    const [last] = await daemon.jobs();
    expect(last).toMatchObject({ id: job.id, state: "finished", result: "canceled" });
  });
});
