import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { createStandInGitLab, type StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { temporaryDirectory } from "../../test/builders/temporary-directory.ts";
import { runCli } from "./program.ts";

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let gitlab: StandInGitLab;
let apiToken: string;

beforeEach(async () => {
  directory = await temporaryDirectory();
  gitlab = createStandInGitLab();
  await gitlab.listen();
  await gitlab.projects.add({ path: "top/app" });
  apiToken = gitlab.tokens.add({ scopes: ["api"] }).token;
});

afterEach(async () => {
  await gitlab.close();
  await directory[Symbol.asyncDispose]();
});

const config = () => join(directory.path, "c.yaml");

/** One command line where nobody can be asked. */
async function firerunner(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const outputs = Promise.all([text(stdout), text(stderr)]);
  const code = await runCli({
    argv: ["--config", config(), ...args],
    env: { PATH: process.env["PATH"], ...env },
    stdin: new PassThrough(),
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

describe("init without a terminal", () => {
  const listener = ["--webhook-url", "https://firerunner.example.org/webhook"];
  const init = async (...args: string[]) =>
    await firerunner(["init", "--url", gitlab.url, ...args], { FIRERUNNER_WEBHOOK__API_TOKEN: apiToken });

  test("asks GitLab, writes a configuration that works, and says what comes next", async () => {
    const { code, out, err } = await init("--group", "top", ...listener);

    expect(code, err).toBe(0);
    expect(err).toContain("ok    the token “");
    expect(err).toContain("ok    group top is number 501 in GitLab");
    expect(out).toContain(`wrote ${config()}\n`);
    expect(out).toContain(`firerunner --config ${config()} webhook install\n`);
    expect(out + err).not.toContain(apiToken);
    expect(await firerunner(["config", "check"])).toMatchObject({
      code: 0,
      out: expect.stringContaining("jobs by tag of group top"),
    });
    expect((await readdir(directory.path)).toSorted()).toEqual(["api.token", "c.yaml", "webhook.key"]);
    expect(gitlab.violations).toEqual([]);
  });

  test("makes the hook at once where that is wanted", async () => {
    const { code, out } = await init("--project", "top/app", ...listener, "--install");
    const key = (await readFile(join(directory.path, "webhook.key"), "utf8")).trim();

    expect(code).toBe(0);
    expect(out).toContain("hook 1 made, for job and pipeline events");
    expect(out).not.toContain(key);
  });

  test("gives programs its result as JSON", async () => {
    const { out } = await init("--group", "top", "--json");

    expect(JSON.parse(out)).toEqual({
      ok: true,
      configFile: config(),
      files: [join(directory.path, "api.token"), config()],
      hasListener: false,
      hasDoor: false,
    });
    expect((await init("--group", "top", "--json", "--install", "--force")).code).toBe(2);
  });

  test("names what is missing, and what does not work, and writes nothing", async () => {
    const missing = await init();
    const unknown = await init("--group", "tpo");
    const noToken = await firerunner(["init", "--url", gitlab.url, "--group", "top"]);

    expect(missing).toMatchObject({
      code: 2,
      err: expect.stringContaining("--group, --project or --instance"),
    });
    expect(unknown).toMatchObject({ code: 1, err: expect.stringContaining("there is no such group") });
    expect(unknown.err.split("there is no such group")).toHaveLength(2);
    expect(noToken).toMatchObject({ code: 2, err: expect.stringContaining("FIRERUNNER_WEBHOOK__API_TOKEN") });
    expect(await readdir(directory.path)).toEqual([]);
  });

  test("leaves a configuration that is there alone", async () => {
    await init("--group", "top");
    const before = await readFile(config(), "utf8");

    const again = await init("--project", "top/app");

    expect(again).toMatchObject({ code: 2, err: expect.stringContaining("--force") });
    expect(await readFile(config(), "utf8")).toBe(before);
  });

  test("an option wins over the environment, which speaks of another scope", async () => {
    const env = {
      FIRERUNNER_WEBHOOK__API_TOKEN: apiToken,
      FIRERUNNER_WEBHOOK__GROUP: "top",
      FIRERUNNER_GITLAB__URL: gitlab.url,
    };

    expect((await firerunner(["init", "--project", "top/app"], env)).code).toBe(0);
    expect(await readFile(config(), "utf8")).toContain('project: "top/app"');
    expect((await firerunner(["init", "--force"], env)).code).toBe(0);
    expect(await readFile(config(), "utf8")).toContain('group: "top"');
  });
});
