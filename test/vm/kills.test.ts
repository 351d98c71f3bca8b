import type { Job } from "@firerunner/gitlab-stand-in/model";
import type { Violation } from "@firerunner/gitlab-stand-in/violations";
import { afterEach, describe, expect, test } from "vitest";
import type { JobDefinition } from "../../src/ci/definition.ts";
import type { MachineState } from "../../src/domain/states.ts";
import type { Daemon } from "../harness/daemon.ts";
import { eventually } from "../harness/eventually.ts";
import { createInstallation, type Installation } from "../harness/installation.ts";

const DONE_MS = 150_000;

const steady: Partial<JobDefinition> = {
  name: "steady",
  script: ["for i in $(seq 8); do echo line $i; sleep 1; done", "echo the end"],
  variables: { GIT_STRATEGY: "none" },
  timeoutSeconds: 600,
};

describe("when something is killed", () => {
  let installation: Installation | undefined;
  let daemon: Daemon | undefined;

  afterEach(async () => {
    await daemon?.stop();
    await installation?.close();
    daemon = undefined;
    installation = undefined;
  });

  async function begin(definition = steady): Promise<{ job: Job; here: Installation }> {
    installation = await createInstallation();
    daemon = await installation.start();
    const project = await installation.gitlab.projects.add();
    return { job: await installation.gitlab.addJob(project, definition), here: installation };
  }

  async function machineIn(...states: MachineState[]): Promise<string> {
    const machine = await eventually(
      `a machine is ${states.join(" or ")}`,
      async () => (await daemon?.machines())?.find(({ state }) => states.includes(state)),
      90_000,
    );
    return machine.id;
  }

  /**
   * What GitLab saw go wrong. An answer that was lost with a connection makes the runner send bytes that GitLab has already:
   * GitLab says so (416), and both go on. That is the protocol's own recovery and no violation.
   */
  function violations(): readonly Violation[] {
    return installation?.gitlab.violations.filter(({ rule }) => rule !== "trace-range") ?? [];
  }

  function expectWholeTrace(job: Job): void {
    const lines = job.trace.text().match(/^line \d$/gm);
    expect(lines).toEqual([1, 2, 3, 4, 5, 6, 7, 8].map((n) => `line ${n}`));
    expect(job.trace.text()).toContain("the end");
    expect(job.traceCheck?.matches).toBe(true);
  }

  test("FireRunner, once the claim was answered: the job runs after the next start", async () => {
    const { job, here } = await begin();
    await eventually("the claim is durable", async () => (await daemon?.jobs())?.length === 1);

    await daemon?.kill9();
    daemon = await here.start();
    await here.gitlab.waitForJob(job, "success", DONE_MS);

    expectWholeTrace(job);
    expect(violations()).toEqual([]);
    await here.expectNothingLeft();
  });

  test("FireRunner, while the machine boots: the same machine goes on to run the job", async () => {
    const { job, here } = await begin();
    const machineId = await machineIn("booting");
    const [pid] = here.machineProcesses();

    await daemon?.kill9();
    expect(here.machineProcesses()).toEqual([pid]);
    daemon = await here.start();
    await here.gitlab.waitForJob(job, "success", DONE_MS);

    expectWholeTrace(job);
    const machines = await daemon.machines();
    expect(machines.map(({ id }) => id)).toEqual([machineId]);
    expect(violations()).toEqual([]);
    await here.expectNothingLeft();
  });

  test("FireRunner, while the job runs: the guest does not notice, nothing of its log is lost or doubled", async () => {
    const { job, here } = await begin();
    await here.gitlab.waitForJob(job, ({ trace }) => trace.text().includes("line 2"), DONE_MS);
    const [pid] = here.machineProcesses();

    await daemon?.kill9();
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    expect(here.machineProcesses()).toEqual([pid]);
    daemon = await here.start();
    await here.gitlab.waitForJob(job, "success", DONE_MS);

    expectWholeTrace(job);
    expect(violations()).toEqual([]);
    await here.expectNothingLeft();
  });

  test("FireRunner, while the result is reported: the result arrives once", async () => {
    const { job, here } = await begin({ ...steady, script: ["echo quick"] });
    here.gitlab.faults.add("update-job", { kind: "delay", ms: 2_000 }, { jobId: job.id });
    await here.gitlab.waitForJob(job, ({ trace }) => trace.text().includes("quick"), DONE_MS);

    await daemon?.kill9();
    daemon = await here.start();
    await here.gitlab.waitForJob(job, "success", DONE_MS);
    await eventually("the store agrees", async () => (await daemon?.jobs())?.[0]?.state === "finished");

    expect(violations().filter(({ rule }) => rule !== "heartbeat-after-end")).toEqual([]);
    await here.expectNothingLeft();
  });

  test("the machine, before it took the job: another one runs it and the log says so", async () => {
    const { job, here } = await begin();
    const first = await machineIn("booting");
    const [pid] = here.machineProcesses();
    if (pid) process.kill(pid, "SIGKILL");
    await here.gitlab.waitForJob(job, "success", DONE_MS);

    expectWholeTrace(job);
    expect(job.trace.text()).toContain(first);
    expect((await daemon?.machines())?.length).toBe(2);
    await here.expectNothingLeft();
  });

  test("the machine, while the job runs: GitLab knows within seconds, and why", async () => {
    const { job, here } = await begin({ ...steady, script: ["echo working", "sleep 600"] });
    await here.gitlab.waitForJob(job, ({ trace }) => trace.text().includes("working\n"), DONE_MS);

    const killedAt = Date.now();
    for (const pid of here.machineProcesses()) process.kill(pid, "SIGKILL");
    await here.gitlab.waitForJob(job, "failed", 20_000);

    expect(job.failureReason).toBe("runner_system_failure");
    // The promise is 2 s; a busy test machine is given more.
    expect(Date.now() - killedAt).toBeLessThan(10_000);
    expect(job.trace.text()).toMatch(/killed/i);
    await here.expectNothingLeft();
  });

  test("the machine, while FireRunner is down: the first round of the next start reports it", async () => {
    const { job, here } = await begin({ ...steady, script: ["echo working", "sleep 600"] });
    await here.gitlab.waitForJob(job, ({ trace }) => trace.text().includes("working\n"), DONE_MS);

    await daemon?.kill9();
    for (const pid of here.machineProcesses()) process.kill(pid, "SIGKILL");
    daemon = await here.start();
    await here.gitlab.waitForJob(job, "failed", 30_000);

    expect(job.failureReason).toBe("runner_system_failure");
    await here.expectNothingLeft();
  });

  test("GitLab is down for a while in mid-job: the job ends right all the same", async () => {
    const { job, here } = await begin();
    await here.gitlab.waitForJob(job, ({ trace }) => trace.text().includes("line 2"), DONE_MS);

    await here.gitlab.down();
    await new Promise((resolve) => setTimeout(resolve, 15_000));
    await here.gitlab.up();
    await here.gitlab.waitForJob(job, "success", DONE_MS);

    expectWholeTrace(job);
    expect(violations()).toEqual([]);
    await here.expectNothingLeft();
  });
});
