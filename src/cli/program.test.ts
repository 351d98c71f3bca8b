import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { aControlPorts } from "../../test/builders/control-ports.ts";
import { aHostPorts } from "../../test/builders/host-ports.ts";
import { aClaim } from "../../test/builders/job.ts";
import { aNewMachine } from "../../test/builders/machine.ts";
import { aStore, type TestStore } from "../../test/builders/store.ts";
import { unbroken } from "../../test/harness/unbroken.ts";
import { systemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { type ControlServer, openControlServer } from "../server/control/control-server.ts";
import type { ControlPorts } from "../server/routes/ports.ts";
import type { DaemonStatus } from "../views/api.ts";
import { createViews } from "../views/views.ts";
import { runCli } from "./program.ts";

const main = join(import.meta.dirname, "../main.ts");
const machineId = "fr-aaaaaaaa";
const consoleText = "booting\u001b[31m\nlogin:";

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

let directory: string;
let configFile: string;
let kept: TestStore;
let server: ControlServer | undefined;
let calls: string[];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-cli-"));
  configFile = join(directory, "firerunner.yaml");
  await writeFile(configFile, configText(), { mode: 0o600 });
  await mkdir(join(directory, "state"));
  calls = [];
});

afterEach(async () => {
  await server?.close();
  server = undefined;
  await kept?.[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

function configText(): string {
  return `gitlab: { url: http://127.0.0.1:9 }
pools:
  small:
    runner: { token: glrt-PLANTED }
state: ${join(directory, "state")}
`;
}

/** One command line, with an environment and outputs of its own. */
async function firerunner(...args: string[]): Promise<Ended> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const outputs = Promise.all([text(stdout), text(stderr)]);
  const code = await runCli({
    argv: args,
    env: { PATH: process.env["PATH"], FIRERUNNER_CONFIG: configFile },
    stdout,
    stderr,
    version: "0.0.1",
    executable: [process.execPath],
  });
  stdout.end();
  stderr.end();
  const [out, err] = await outputs;
  return { code, out, err };
}

/** The same as a process: what a user's shell sees. */
async function asProcess(...args: string[]): Promise<Ended> {
  return await new Promise((resolve) => {
    const env = { PATH: process.env["PATH"], FIRERUNNER_CONFIG: configFile };
    execFile(process.execPath, [main, ...args], { cwd: directory, env, timeout: 60_000 }, (error, out, err) =>
      resolve({ code: error ? Number(error.code ?? -1) : 0, out, err }),
    );
  });
}

const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";

/** A daemon's control socket, with a real store behind it that holds one running and one failed job. */
async function openDaemon(): Promise<void> {
  kept = await aStore({ clock: systemClock });
  const { store } = kept;
  await store.claim(aClaim());
  await store.startJob(4711, aNewMachine({ id: machineId }));
  await store.markBooting(machineId);
  await store.markReady(machineId);
  await store.handOver(4711, machineId);
  const trace = { traceId, parentSpanId: null, pipelineId: 99, projectId: 7 };
  await store.claim(aClaim({ jobId: 5000, name: "evil\u001b[2Jname", trace }));
  await store.failJob(5000, { reason: "no room", cause: "never-started" });
  await store.finishJob(5000, "failed", { reason: "no room" });
  const ports: ControlPorts = {
    ...aControlPorts(),
    status: () => status,
    hosts: aHostPorts(calls),
    console: async () => consoleText,
    async *followConsole() {
      yield " more";
    },
    drain: () => void calls.push("drain"),
    resume: () => void calls.push("resume"),
    reload: async () => ["pool small: new runner token"],
  };
  const views = createViews({ store, now: systemClock.now });
  server = await openControlServer({
    stateDirectory: join(directory, "state"),
    views,
    ports,
    clock: systemClock,
    log: silentLog,
  });
}

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

describe("a mistake on the command line", () => {
  test.each([
    [["statsu"], 2, "Did you mean status?"],
    [["jobs", "--lmit", "3"], 2, "Did you mean --limit?"],
    [["jobs", "-n", "0"], 2, "whole number from 1"],
    [["why"], 2, "missing required argument 'job'"],
    [["why", "it"], 2, "Give GitLab's job id"],
    [["image", "bild"], 2, "Did you mean build?"],
    [["status", "--config", "nowhere.yaml"], 2, "nowhere.yaml does not exist"],
    [[], 2, "Usage: firerunner"],
  ])("%j ends with %i and %s", async (args, code, words) => {
    const ended = await firerunner(...args);

    expect(unbroken(ended.err)).toContain(words);
    expect(ended).toMatchObject({ code, out: "" });
  });

  test.each([
    [["statsu"], 2],
    [["config", "check"], 0],
    [["status"], 3],
    [["image", "verify", "base"], 4],
    [["doctor", "--json"], 1],
  ])("%j as a process exits with %i", async (args, code) => {
    expect((await asProcess(...args)).code).toBe(code);
  });

  test("a reader that stops early is no failure", async () => {
    const shell = `"${process.execPath}" "${main}" config schema | head -n 1`;
    const first = await new Promise<string>((resolve, reject) => {
      const options = { env: { PATH: process.env["PATH"] }, timeout: 60_000 };
      execFile("bash", ["-o", "pipefail", "-c", shell], options, (error, out) =>
        error ? reject(error) : resolve(out),
      );
    });

    expect(first).toBe("{\n");
  });

  test("help and version are results", async () => {
    const [help, version] = await Promise.all([firerunner("jobs", "--help"), firerunner("--version")]);

    expect(help).toMatchObject({ code: 0, err: "" });
    expect(help.out).toContain("--json");
    expect(version.out).toBe("0.0.1\n");
    expect((await asProcess("--version")).out).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe("without a daemon", () => {
  test("commands that need one say how to start it", async () => {
    const commands = [["status"], ["logs", machineId], ["drain"], ["reload"], ["jobs"]];
    const ended = await Promise.all(commands.map(async (args) => await firerunner(...args)));

    for (const { code, err } of ended) {
      expect(code).toBe(3);
      expect(err).toContain(`no FireRunner runs with the state directory ${join(directory, "state")}`);
      expect(err).toContain("firerunner start");
    }
  });

  test("a failure is JSON when results are", async () => {
    const { code, err } = await firerunner("status", "--json");

    expect(code).toBe(3);
    expect(JSON.parse(err)).toMatchObject({ code: "cli_not_running", hint: expect.any(String) });
  });

  test("jobs and why read what it left", async () => {
    kept = await aStore({ clock: systemClock, onDisk: true });
    await kept.store.claim(aClaim());
    await writeFile(configFile, configText().replace(/state: .*/, `state: ${kept.directory}`));

    const jobs = await firerunner("jobs");
    const why = await firerunner("why", "4711");

    expect(jobs.out).toContain("4711");
    expect(jobs.err).toContain("FireRunner does not run; this is what it left");
    expect(why.out).toContain("waits for a machine");
  });
});

describe("with a daemon", () => {
  beforeEach(openDaemon);

  test("status tells of pools, hosts, jobs and troubles", async () => {
    const { code, out } = await firerunner("status");

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
    await writeFile(configFile, configText().replace("small:", "Small:"));

    expect((await firerunner("status")).code).toBe(0);
  });

  test("jobs and machines are tables, or JSON", async () => {
    const [jobs, live, machines] = await Promise.all([
      firerunner("jobs"),
      firerunner("jobs", "--live", "--json"),
      firerunner("machines"),
    ]);

    expect(jobs.out).toMatch(/^JOB +STATE/);
    expect(jobs.out).toContain("evilname");
    expect((JSON.parse(live.out) as { id: number }[]).map(({ id }) => id)).toEqual([4711]);
    expect(machines.out).toMatch(new RegExp(`^${machineId} +busy +4711`, "m"));
  });

  test("why tells the story, by id or by the page's address", async () => {
    const running = await firerunner("why", "4711");
    const failed = await firerunner("why", "https://gitlab.example.com/g/p/-/jobs/5000");
    const unknown = await firerunner("why", "99");

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
      firerunner("logs", machineId),
      firerunner("logs", machineId, "-f"),
      firerunner("logs", machineId, "--json"),
      firerunner("logs", machineId, "--raw"),
      firerunner("logs", "fr-bbbbbbbb"),
    ]);

    expect(end.out).toBe("booting\nlogin:");
    expect(followed.out).toBe("booting\nlogin: more");
    expect(raw.out).toBe(consoleText);
    expect(JSON.parse(json.out)).toEqual({ machineId, text: consoleText });
    expect(unknown).toMatchObject({ code: 4, err: expect.stringContaining("machines --all") });
  });

  test("drain, its undoing and reload are passed on", async () => {
    await firerunner("drain");
    await firerunner("drain", "--undo");
    const reload = await firerunner("reload");

    expect(calls).toEqual(["drain", "resume"]);
    expect(reload.out).toBe("pool small: new runner token\n");
  });

  test("hosts are listed with what is wrong and what to do, drained, resumed and forgotten", async () => {
    const listed = await firerunner("hosts");
    const drained = await firerunner("hosts", "drain", "metal-1", "--no-wait");
    const waited = await firerunner("hosts", "drain", "metal-1");
    await firerunner("hosts", "resume", "metal-1");
    await firerunner("hosts", "forget", "metal-1");

    expect(listed.out).toMatch(/local +qemu +avoided +1\/4 +1\/4 +512 MiB\/8 GiB +1 GiB\/2 GiB +zone: a/);
    expect(listed.out).toContain("! local: slow\n  → give it time");
    expect(drained).toMatchObject({ code: 0, out: "drain: metal-1\n" });
    expect(waited).toMatchObject({ code: 0, out: "no machine is left on metal-1\n" });
    expect(calls).toEqual(["drain metal-1", "drain metal-1", "resume metal-1", "forget metal-1"]);
  });

  test("drain --wait returns when nothing is left", async () => {
    const waiting = firerunner("drain", "--wait");
    await expect.poll(() => calls, { timeout: 20_000 }).toEqual(["drain"]);
    await kept.store.finishJob(4711, "success");
    await kept.store.stopMachine(machineId, "done");
    await kept.store.markGone(machineId);

    expect(await waiting).toMatchObject({ code: 0, out: "nothing is left to do\n" });
  });
});

describe("config", () => {
  test("check names the mistake, its line and the nearest key", async () => {
    expect(await firerunner("config", "check")).toMatchObject({
      code: 0,
      out: expect.stringContaining("1 pool (small)"),
    });
    await writeFile(configFile, configText().replace("pools:", "polls:"));

    const { code, err } = await firerunner("config", "check");

    expect(code).toBe(2);
    expect(unbroken(err)).toContain("firerunner.yaml:2:1: unknown key “polls”; did you mean “pools”?");
  });

  test("of jobs by tag shows their scope and none of their secrets", async () => {
    const key = `whsec_${"P".repeat(42)}A=`;
    const webhook = `webhook:\n  group: g/h\n  apiToken: glpat-PLANTED\n  signingKey: ${key}\n  token: PLANTED-token\n`;
    const rules = "  rules: [{ tag: gpu, image: gpu }]\n";
    await writeFile(configFile, configText() + webhook + rules);

    const [check, show, json] = [
      await firerunner("config", "check"),
      await firerunner("config", "show"),
      await firerunner("config", "show", "--json"),
    ];

    expect(unbroken(check.out)).toContain("1 pool (small), jobs by tag of group g/h, state in");
    expect(show.out).toMatch(/^ {2}apiToken: "\[secret\]" +# .*firerunner\.yaml:8:3$/m);
    expect(show.out).toMatch(/^ {2}rules: \[ \{ tag: gpu, image: gpu \} \] +#/m);
    for (const { out, err } of [check, show, json]) expect(out + err).not.toMatch(/PLANTED|PPPP/);
    await writeFile(configFile, configText() + webhook.replace("glpat-", "glrt-"));
    const { code, err } = await firerunner("config", "check");
    expect(code).toBe(2);
    expect(unbroken(err)).toContain("webhook.apiToken holds a runner's authentication token");
    expect(err).not.toContain("PLANTED");
  });

  test("show is YAML with origins and without secrets", async () => {
    const { out } = await firerunner("config", "show");

    expect(out).not.toContain("PLANTED");
    expect(out).toMatch(/^ {4}concurrency: 10 +# default$/m);
    expect(out).toMatch(/^ {2}url: http:\/\/127\.0\.0\.1:9 +# .*firerunner\.yaml:1:11$/m);
    const json = JSON.parse((await firerunner("config", "show", "--json")).out) as object[];
    expect(json).toContainEqual(
      expect.objectContaining({ key: "pools.small.runner.token", value: "[secret]" }),
    );
  });

  test("schema is JSON Schema", async () => {
    expect(JSON.parse((await firerunner("config", "schema")).out)).toMatchObject({
      type: "object",
      required: ["gitlab"],
    });
  });
});

describe("image and doctor", () => {
  test("images that are not there are said to be missing", async () => {
    const [list, verify] = await Promise.all([
      firerunner("image", "list"),
      firerunner("image", "verify", "base"),
    ]);

    expect(list).toMatchObject({ code: 0, err: expect.stringContaining("firerunner image build") });
    expect(verify).toMatchObject({ code: 4, err: expect.stringContaining("firerunner image build") });
  });

  test("doctor says of each thing how it is and what to do, and fails", async () => {
    const { code, out } = await firerunner("doctor", "--json");
    const { ok, findings } = JSON.parse(out) as {
      ok: boolean;
      findings: { name: string; level: string; hint?: string }[];
    };
    const of = (name: string) => findings.find((each) => each.name === name);

    expect({ code, ok }).toEqual({ code: 1, ok: false });
    expect(of("configuration")).toMatchObject({ level: "ok" });
    expect(of("gitlab")).toMatchObject({ level: "fail", hint: expect.stringContaining("gitlab.url") });
    expect(of("image base")).toMatchObject({ level: "fail" });
    expect(of("state")).toMatchObject({ level: "ok" });
  });

  test("doctor goes on without a usable configuration", async () => {
    await writeFile(configFile, "nonsense: 1\n");

    const { code, out } = await firerunner("doctor");

    expect(code).toBe(1);
    expect(out).toMatch(/^FAIL {2}configuration/);
    expect(out).toContain("memory");
  });
});
