import { readFile, writeFile } from "node:fs/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { aClaim } from "../../test/builders/job.ts";
import { aNewMachine } from "../../test/builders/machine.ts";
import { aControlDaemon, type ControlDaemon } from "../../test/harness/control-daemon.ts";
import type { DaemonStatus } from "../views/api.ts";

const machineId = "fr-aaaaaaaa";
const consoleText = "booting\u001b[31m\nlogin:";
const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";

let daemon: ControlDaemon;

/** It has one running and one failed job. */
beforeEach(async () => {
  daemon = await aControlDaemon({
    status: () => status,
    console: async () => consoleText,
    async *followConsole() {
      yield " more";
    },
    reload: async () => ["pool small: new runner token"],
  });
  const { store } = daemon;
  await store.claim(aClaim());
  await store.startJob(4711, aNewMachine({ id: machineId }));
  await store.markBooting(machineId);
  await store.markReady(machineId);
  await store.handOver(4711, machineId);
  const trace = { traceId, parentSpanId: null, pipelineId: 99, projectId: 7 };
  await store.claim(aClaim({ jobId: 5000, name: "evil\u001b[2Jname", trace }));
  await store.failJob(5000, { reason: "no room", cause: "never-started" });
  await store.finishJob(5000, "failed", { reason: "no room" });
});

afterEach(async () => {
  await daemon[Symbol.asyncDispose]();
});

const status: DaemonStatus = {
  version: "1.2.3",
  pid: 42,
  startedAt: Date.now(),
  mode: "drain",
  configFile: null,
  stateDirectory: "/state",
  gitlabUrl: "https://gitlab.example.com",
  gitlabProblem: null,
  pools: [
    {
      name: "small",
      origin: "configured",
      ok: false,
      problems: [{ problem: "no image", hint: "build one" }],
      accelerator: "kvm",
      driver: "qemu",
      image: "base",
      size: { cpus: 1, memoryMib: 512, diskMib: 1024 },
      limit: 4,
      room: { machines: 2, byDisk: 2, note: "disk allows 2 machines at one time" },
      claiming: "polling",
    },
  ],
  hosts: [
    {
      key: "qemu",
      driver: "qemu",
      host: "local",
      labels: { zone: "a" },
      drained: false,
      taken: { cpus: 1, memoryMib: 512, machines: 1, diskMib: 1024 },
      capacity: { cpus: 4, memoryMib: 8192, machines: 4, diskMib: 2048 },
      problem: "slow",
      hint: "give it time",
    },
  ],
  fetching: [],
  troubles: ["destroy fr-bbbbbbbb: busy"],
  caches: [],
};

describe("with a daemon", () => {
  test("status tells of pools, hosts, jobs and troubles", async () => {
    const { code, out } = await daemon.firerunner("status");

    expect(code).toBe(0);
    expect(out).toContain("FireRunner 1.2.3 takes no new jobs");
    expect(out).toMatch(/^small +not ready +1\/4 +0 +0 +1 CPU, 512 MiB +base +not asked$/m);
    expect(out).toMatch(/^! small: no image\n {2}→ build one$/m);
    expect(out).toContain("! small: disk allows 2 machines at one time");
    expect(out).toMatch(/^local +qemu +avoided +1\/4 +1\/4 +512 MiB\/8 GiB +1 GiB\/2 GiB +zone: a$/m);
    expect(out).toContain("! destroy fr-bbbbbbbb: busy");
    expect(out).toMatch(/^4711 +running +small/m);
    expect(out).toMatch(/^5000 +failed \(no machine\)/m);
  });

  test("status works though the configuration has a mistake elsewhere", async () => {
    const config = await readFile(daemon.configFile, "utf8");
    await writeFile(daemon.configFile, config.replace("small:", "Small:"));

    expect((await daemon.firerunner("status")).code).toBe(0);
  });

  test("jobs and machines are tables, or JSON", async () => {
    const [jobs, live, machines] = await Promise.all([
      daemon.firerunner("jobs"),
      daemon.firerunner("jobs", "--live", "--json"),
      daemon.firerunner("machines"),
    ]);

    expect(jobs.out).toMatch(/^JOB +STATE/);
    expect(jobs.out).toContain("evilname");
    expect((JSON.parse(live.out) as { id: number }[]).map(({ id }) => id)).toEqual([4711]);
    expect(machines.out).toMatch(new RegExp(`^${machineId} +busy +4711`, "m"));
  });

  test("why tells the story, by id or by the page's address", async () => {
    const running = await daemon.firerunner("why", "4711");
    const failed = await daemon.firerunner("why", "https://gitlab.example.com/g/p/-/jobs/5000");
    const unknown = await daemon.firerunner("why", "99");

    expect(running.out).toContain(`handed over to ${machineId}: the job runs`);
    expect(failed.out).toContain("was failed by FireRunner");
    expect(failed.out).toContain("cause: no room");
    expect(failed.out).toContain(`trace: ${traceId}`);
    expect(running.out).not.toContain("trace:");
    expect(failed.out).not.toContain("\u001b");
    expect(unknown).toMatchObject({ code: 4, out: "" });
  });

  test("logs gives the console's end, and what comes", async () => {
    const [end, followed, json, raw, unknown] = await Promise.all([
      daemon.firerunner("logs", machineId),
      daemon.firerunner("logs", machineId, "-f"),
      daemon.firerunner("logs", machineId, "--json"),
      daemon.firerunner("logs", machineId, "--raw"),
      daemon.firerunner("logs", "fr-bbbbbbbb"),
    ]);

    expect(end.out).toBe("booting\nlogin:");
    expect(followed.out).toBe("booting\nlogin: more");
    expect(raw.out).toBe(consoleText);
    expect(JSON.parse(json.out)).toEqual({ machineId, text: consoleText });
    expect(unknown).toMatchObject({ code: 4, err: expect.stringContaining("machines --all") });
  });

  test("drain, its undoing and reload are passed on", async () => {
    await daemon.firerunner("drain");
    await daemon.firerunner("drain", "--undo");
    const reload = await daemon.firerunner("reload");

    expect(daemon.calls).toEqual(["drain", "resume"]);
    expect(reload.out).toBe("pool small: new runner token\n");
  });

  test("hosts are listed with what is wrong and what to do, drained, resumed and forgotten", async () => {
    const listed = await daemon.firerunner("hosts");
    const drained = await daemon.firerunner("hosts", "drain", "metal-1", "--no-wait");
    const waited = await daemon.firerunner("hosts", "drain", "metal-1");
    await daemon.firerunner("hosts", "resume", "metal-1");
    await daemon.firerunner("hosts", "forget", "metal-1");

    expect(listed.out).toMatch(/local +qemu +avoided +1\/4 +1\/4 +512 MiB\/8 GiB +1 GiB\/2 GiB +zone: a/);
    expect(listed.out).toContain("! local: slow\n  → give it time");
    expect(drained).toMatchObject({ code: 0, out: "drain: metal-1\n" });
    expect(waited).toMatchObject({ code: 0, out: "no machine is left on metal-1\n" });
    expect(daemon.calls).toEqual(["drain metal-1", "drain metal-1", "resume metal-1", "forget metal-1"]);
  });

  test("drain --wait returns when nothing is left", async () => {
    const waiting = daemon.firerunner("drain", "--wait");
    await expect.poll(() => daemon.calls, { timeout: 20_000 }).toEqual(["drain"]);
    await daemon.store.finishJob(4711, "success");
    await daemon.store.stopMachine(machineId, "done");
    await daemon.store.markGone(machineId);

    expect(await waiting).toMatchObject({ code: 0, out: "nothing is left to do\n" });
  });
});
