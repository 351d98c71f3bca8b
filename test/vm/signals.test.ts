import { readFile, writeFile } from "node:fs/promises";
import { describe, expect, type TestContext, test } from "vitest";
import { parse, stringify } from "yaml";
import type { Daemon } from "../harness/daemon.ts";
import { eventually } from "../harness/eventually.ts";
import { createInstallation, type Installation } from "../harness/installation.ts";

const DONE_MS = 150_000;

/** An installation and its FireRunner, which end with the test. */
interface Scene {
  readonly here: Installation;
  daemon: Daemon;
}

async function begin(
  { onTestFinished }: TestContext,
  settings: Readonly<Record<string, unknown>> = {},
): Promise<Scene> {
  const here = await createInstallation({ settings });
  onTestFinished(() => here.close());
  const scene = { here, daemon: await here.start() };
  onTestFinished(() => scene.daemon.kill9());
  return scene;
}

// Each has an installation of its own, and most of its time is waiting.
describe.concurrent("signals", () => {
  test("SIGTERM claims nothing more and lets the running job end within the drain limit", async (context) => {
    const { daemon, here } = await begin(context, { shutdown: { drainLimit: "2m" } });
    const { gitlab } = here;
    const project = await gitlab.projects.add();
    const job = await gitlab.addJob(project, {
      script: ["echo working", "sleep 4", "echo the end"],
      variables: { GIT_STRATEGY: "none" },
    });
    await gitlab.waitForJob(job, ({ trace }) => trace.text().includes("working\n"), DONE_MS);

    daemon.signal("SIGTERM");
    await new Promise((resolve) => setTimeout(resolve, 500));
    const late = await gitlab.addJob(project, { script: ["echo late"] });
    const code = await daemon.ended;

    expect(code).toBe(0);
    expect(job.status).toBe("success");
    expect(late.status).toBe("pending");
    await here.expectNothingLeft();
  });

  test("SIGTERM twice leaves at once; the machine runs on and the next start takes it over", async (context) => {
    const scene = await begin(context, { shutdown: { drainLimit: "10m" } });
    const { daemon, here } = scene;
    const { gitlab } = here;
    const project = await gitlab.projects.add();
    const job = await gitlab.addJob(project, {
      script: ["echo working", "sleep 12", "echo the end"],
      variables: { GIT_STRATEGY: "none" },
    });
    await gitlab.waitForJob(job, ({ trace }) => trace.text().includes("working\n"), DONE_MS);
    const pids = here.machineProcesses();

    daemon.signal("SIGTERM");
    await new Promise((resolve) => setTimeout(resolve, 500));
    daemon.signal("SIGTERM");
    await daemon.ended;

    expect(here.machineProcesses()).toEqual(pids);
    scene.daemon = await here.start();
    await gitlab.waitForJob(job, "success", DONE_MS);
    expect(gitlab.violations).toEqual([]);
    await here.expectNothingLeft();
  });

  test("SIGHUP takes over a new pool and its token", async (context) => {
    const { daemon, here } = await begin(context);
    const { gitlab, configFile, directory } = here;
    const added = gitlab.runners.add({ tags: ["second"], runUntagged: false });
    await writeFile(`${directory}/second.token`, added.token, { mode: 0o600 });
    const settings = parse(await readFile(configFile, "utf8"));
    settings.pools.second = {
      ...settings.pools.small,
      size: { cpus: 2, memory: "512MiB", disk: "1GiB" },
      runner: { tokenFile: `${directory}/second.token` },
    };
    await writeFile(configFile, stringify(settings), { mode: 0o600 });

    daemon.signal("SIGHUP");
    const project = await gitlab.projects.add();
    const job = await gitlab.addJob(project, {
      tags: ["second"],
      script: ["nproc"],
      variables: { GIT_STRATEGY: "none" },
    });
    await gitlab.waitForJob(job, "success", DONE_MS);

    expect(job.trace.text()).toMatch(/^2$/m);
    await eventually("the machine is gone", () => here.machineProcesses().length === 0);
  });

  test("SIGHUP with a broken configuration changes nothing and says what is wrong", async (context) => {
    const { daemon, here } = await begin(context);
    const before = await readFile(here.configFile, "utf8");
    await writeFile(here.configFile, `${before}\nnonsense: 1\n`, { mode: 0o600 });

    daemon.signal("SIGHUP");
    await eventually("the log names the key", () => daemon.output().includes("nonsense"));

    await expect(daemon.get("/v1/status")).resolves.toBeDefined();
  });
});
