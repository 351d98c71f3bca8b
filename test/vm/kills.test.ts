import type { Violation } from "@firerunner/gitlab-stand-in/faults";
import type { Job } from "@firerunner/gitlab-stand-in/model";
import { describe, expect, type TestContext, test } from "vitest";
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

/** One job, and the FireRunner that runs it. */
interface Scene {
  readonly here: Installation;
  readonly job: Job;
  daemon: Daemon;
}

async function begin({ onTestFinished }: TestContext, definition = steady): Promise<Scene> {
  const here = await createInstallation();
  onTestFinished(() => here.close());
  const project = await here.gitlab.projects.add();
  const job = await here.gitlab.addJob(project, definition);
  const scene = { here, job, daemon: await here.start() };
  onTestFinished(async () => void (await scene.daemon.stop()));
  return scene;
}

async function machineIn(scene: Scene, ...states: MachineState[]): Promise<string> {
  const machine = await eventually(
    `a machine is ${states.join(" or ")}`,
    async () => (await scene.daemon.machines()).find(({ state }) => states.includes(state)),
    90_000,
  );
  return machine.id;
}

/**
 * What GitLab saw go wrong. An answer that was lost with a connection makes the runner send bytes that GitLab has already:
 * GitLab says so (416), and both go on. That is the protocol's own recovery and no violation.
 */
function violations({ here }: Scene): readonly Violation[] {
  return here.gitlab.violations.filter(({ rule }) => rule !== "trace-range");
}

function expectWholeTrace(job: Job): void {
  const lines = job.trace.text().match(/^line \d$/gm);
  expect(lines).toEqual([1, 2, 3, 4, 5, 6, 7, 8].map((n) => `line ${n}`));
  expect(job.trace.text()).toContain("the end");
  expect(job.traceCheck?.matches).toBe(true);
}

// Each has an installation of its own, and most of its time is waiting.
describe.concurrent("when something is killed", () => {
  test("FireRunner, once the claim was answered: the job runs after the next start", async (context) => {
    const scene = await begin(context);
    const { job, here } = scene;
    await eventually("the claim is durable", async () => (await scene.daemon.jobs())?.length === 1);

    await scene.daemon.kill9();
    scene.daemon = await here.start();
    await here.gitlab.waitForJob(job, "success", DONE_MS);

    expectWholeTrace(job);
    expect(violations(scene)).toEqual([]);
    await here.expectNothingLeft();
  });

  test("FireRunner, while the machine boots: the same machine goes on to run the job", async (context) => {
    const scene = await begin(context);
    const { job, here } = scene;
    const machineId = await machineIn(scene, "booting");
    const [pid] = here.machineProcesses();

    await scene.daemon.kill9();
    expect(here.machineProcesses()).toEqual([pid]);
    scene.daemon = await here.start();
    await here.gitlab.waitForJob(job, "success", DONE_MS);

    expectWholeTrace(job);
    const machines = await scene.daemon.machines();
    expect(machines.map(({ id }) => id)).toEqual([machineId]);
    expect(violations(scene)).toEqual([]);
    await here.expectNothingLeft();
  });

  test("FireRunner, while the job runs: the guest does not notice, nothing of its log is lost or doubled", async (context) => {
    const scene = await begin(context);
    const { job, here } = scene;
    await here.gitlab.waitForJob(job, ({ trace }) => trace.text().includes("line 2"), DONE_MS);
    const [pid] = here.machineProcesses();

    await scene.daemon.kill9();
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    expect(here.machineProcesses()).toEqual([pid]);
    scene.daemon = await here.start();
    await here.gitlab.waitForJob(job, "success", DONE_MS);

    expectWholeTrace(job);
    expect(violations(scene)).toEqual([]);
    await here.expectNothingLeft();
  });

  test("FireRunner, while the result is reported: the result arrives once", async (context) => {
    const scene = await begin(context, { ...steady, script: ["echo quick"] });
    const { job, here } = scene;
    here.gitlab.faults.add("update-job", { kind: "delay", ms: 2_000 }, { jobId: job.id });
    await here.gitlab.waitForJob(job, ({ trace }) => trace.text().includes("quick"), DONE_MS);

    await scene.daemon.kill9();
    scene.daemon = await here.start();
    await here.gitlab.waitForJob(job, "success", DONE_MS);
    await eventually("the store agrees", async () => (await scene.daemon.jobs())?.[0]?.state === "finished");

    expect(violations(scene).filter(({ rule }) => rule !== "heartbeat-after-end")).toEqual([]);
    await here.expectNothingLeft();
  });

  test("the machine, before it took the job: another one runs it and the log says so", async (context) => {
    const scene = await begin(context);
    const { job, here } = scene;
    const first = await machineIn(scene, "booting");
    const [pid] = here.machineProcesses();
    if (pid) process.kill(pid, "SIGKILL");
    await here.gitlab.waitForJob(job, "success", DONE_MS);

    expectWholeTrace(job);
    expect(job.trace.text()).toContain(first);
    expect((await scene.daemon.machines())?.length).toBe(2);
    await here.expectNothingLeft();
  });

  test("the machine, while the job runs: GitLab learns of it long before the job's timeout, and why", async (context) => {
    const scene = await begin(context, { ...steady, script: ["echo working", "sleep 600"] });
    const { job, here } = scene;
    await here.gitlab.waitForJob(job, ({ trace }) => trace.text().includes("working\n"), DONE_MS);

    for (const pid of here.machineProcesses()) process.kill(pid, "SIGKILL");
    await here.gitlab.waitForJob(job, "failed", 20_000);

    expect(job.failureReason).toBe("runner_system_failure");
    expect(job.trace.text()).toMatch(/killed/i);
    await here.expectNothingLeft();
  });

  test("the machine, while FireRunner is down: the first round of the next start reports it", async (context) => {
    const scene = await begin(context, { ...steady, script: ["echo working", "sleep 600"] });
    const { job, here } = scene;
    await here.gitlab.waitForJob(job, ({ trace }) => trace.text().includes("working\n"), DONE_MS);

    await scene.daemon.kill9();
    for (const pid of here.machineProcesses()) process.kill(pid, "SIGKILL");
    scene.daemon = await here.start();
    await here.gitlab.waitForJob(job, "failed", 30_000);

    expect(job.failureReason).toBe("runner_system_failure");
    await here.expectNothingLeft();
  });

  test("GitLab is down for a while in mid-job: the job ends right all the same", async (context) => {
    const scene = await begin(context);
    const { job, here } = scene;
    await here.gitlab.waitForJob(job, ({ trace }) => trace.text().includes("line 2"), DONE_MS);

    await here.gitlab.down();
    await new Promise((resolve) => setTimeout(resolve, 15_000));
    await here.gitlab.up();
    await here.gitlab.waitForJob(job, "success", DONE_MS);

    expectWholeTrace(job);
    expect(violations(scene)).toEqual([]);
    await here.expectNothingLeft();
  });
});
