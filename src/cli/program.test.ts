import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { aClaim } from "../../test/builders/job.ts";
import { aStore } from "../../test/builders/store.ts";
import { commandLineWith, type Ended } from "../../test/harness/command-line.ts";
import { unbroken } from "../../test/harness/unbroken.ts";
import { systemClock } from "../base/clock.ts";

const main = join(import.meta.dirname, "../main.ts");
const machineId = "fr-aaaaaaaa";

let directory: string;
let configFile: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-cli-"));
  configFile = join(directory, "firerunner.yaml");
  await writeFile(configFile, configText(), { mode: 0o600 });
  await mkdir(join(directory, "state"));
});

afterEach(async () => {
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

/** One command line, which finds its configuration by the environment. */
async function firerunner(...args: string[]): Promise<Ended> {
  return await commandLineWith({ env: { FIRERUNNER_CONFIG: configFile }, version: "0.0.1" }, ...args);
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
    await using kept = await aStore({ clock: systemClock, onDisk: true });
    await kept.store.claim(aClaim());
    await writeFile(configFile, configText().replace(/state: .*/, `state: ${kept.directory}`));

    const jobs = await firerunner("jobs");
    const why = await firerunner("why", "4711");

    expect(jobs.out).toContain("4711");
    expect(jobs.err).toContain("FireRunner does not run; this is what it left");
    expect(why.out).toContain("waits for a machine");
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
