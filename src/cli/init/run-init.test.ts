import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { rootCertificates } from "node:tls";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type ScriptedAsker, scriptedAsker } from "../../../test/builders/scripted-asker.ts";
import { temporaryDirectory } from "../../../test/builders/temporary-directory.ts";
import { Secret } from "../../base/secret.ts";
import { loadConfig } from "../../config/load.ts";
import type { Finding } from "../../operations/doctor/findings.ts";
import type { SetupChecks } from "../../operations/setup-checks.ts";
import { createOutput } from "../output.ts";
import { canceled, createSilentPrompter } from "./prompter.ts";
import { type InitOptions, runInit } from "./run-init.ts";

const key = `whsec_${"k".repeat(42)}A=`;
const ok: Finding = { level: "ok", message: "fine" };
const fail: Finding = { level: "fail", message: "not so", hint: "do this" };
const TOKEN = "--token-file or $FIRERUNNER_WEBHOOK__API_TOKEN";
const SCOPE = "--group, --project or --instance";

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let configFile: string;

beforeEach(async () => {
  directory = await temporaryDirectory();
  configFile = join(directory.path, "etc", "config.yaml");
});

afterEach(async () => {
  await directory[Symbol.asyncDispose]();
});

/** A GitLab where everything is right but what a test says. */
function someChecks(answers: Partial<Record<keyof SetupChecks, readonly (readonly Finding[])[]>> = {}) {
  const left = new Map(Object.entries(answers).map(([name, list]) => [name, [...list]]));
  const seen: unknown[][] = [];
  const next = (name: string, ...given: unknown[]) => {
    seen.push([name, ...given]);
    return left.get(name)?.shift() ?? [ok];
  };
  const checks: SetupChecks = {
    checkPlace: async (place) => next("checkPlace", place)[0] ?? ok,
    checkToken: async (_place, token) => next("checkToken", token.reveal()),
    checkScope: async (_place, _token, scope) => next("checkScope", scope),
  };
  return { checks, seen };
}

async function init(
  asker: ScriptedAsker | ReturnType<typeof createSilentPrompter>,
  options: Partial<InitOptions> = {},
  checks: SetupChecks = someChecks().checks,
) {
  return await runInit(
    { configFile, force: false, newSigningKey: () => new Secret(key), ...options },
    { asker, checks, signal: new AbortController().signal },
  );
}

const answers = {
  "--url": ["gitlab.example.org/"],
  [TOKEN]: ["glpat-typed"],
  [SCOPE]: ["group"],
  "--group": ["engineering"],
  "--webhook-url": ["proxy", "https://fr.example.org/webhook"],
};

async function filesIn(path: string): Promise<string[]> {
  return (await readdir(path, { recursive: true }).catch(() => [])).toSorted();
}

describe("with somebody to ask", () => {
  test("each answer is checked as it is given, and the files are a configuration that works", async () => {
    const { checks, seen } = someChecks();

    const result = await init(scriptedAsker(answers), {}, checks);

    expect(seen).toEqual([
      ["checkPlace", { url: "https://gitlab.example.org", caFile: undefined }],
      ["checkToken", "glpat-typed"],
      ["checkScope", { kind: "group", name: "engineering" }],
    ]);
    const at = (name: string) => join(directory.path, "etc", name);
    expect(result).toEqual({
      configFile,
      files: [at("api.token"), at("webhook.key"), configFile],
      hasListener: true,
    });
    const config = await loadConfig({ file: configFile, env: {}, root: true });
    expect(config.gitlab.url).toBe("https://gitlab.example.org");
    expect(config.webhook).toMatchObject({ group: "engineering", url: "https://fr.example.org/webhook" });
    expect(config.webhook?.secrets.apiToken.reveal()).toBe("glpat-typed");
    expect(config.webhook?.secrets.signingKeys.map((each) => each.reveal())).toEqual([key]);
    expect(config.http).toMatchObject({ listen: ["http://127.0.0.1:8080"], trustedProxies: ["127.0.0.1"] });
    for (const file of ["api.token", "webhook.key"]) {
      expect((await stat(at(file))).mode & 0o777).toBe(0o600);
    }
    expect(await readFile(configFile, "utf8")).not.toMatch(/glpat-typed|whsec_/);
  });

  test("a wrong answer is explained and asked for again", async () => {
    const { checks, seen } = someChecks({
      checkPlace: [[fail]],
      checkToken: [[fail, ok]],
      checkScope: [[fail]],
    });
    const asker = scriptedAsker({
      ...answers,
      "--url": ["https://typo.example.org", "not an address", "https://gitlab.example.org"],
      [TOKEN]: ["glrt-wrong", "glpat-old", "glpat-new"],
      [SCOPE]: ["group", "project"],
      "--project": ["a/b"],
    });

    await init(asker, {}, checks);

    expect(asker.shown.filter(({ level }) => level === "fail").map(({ message }) => message)).toEqual([
      "not so",
      "An address such as https://gitlab.example.org is wanted.",
      expect.stringContaining("what you typed holds a runner's authentication token"),
      "not so",
      "not so",
    ]);
    expect(seen.at(-1)).toEqual(["checkScope", { kind: "project", name: "a/b" }]);
    expect((await loadConfig({ file: configFile, env: {} })).webhook).toMatchObject({ project: "a/b" });
  });

  test("a certificate that is not trusted asks for its authority, not for another address", async () => {
    const untrusted = { ...fail, untrusted: true } as Finding;
    const { checks, seen } = someChecks({ checkPlace: [[untrusted]] });
    const caFile = join(directory.path, "ca.pem");
    await writeFile(caFile, rootCertificates[0] ?? "");

    await init(scriptedAsker({ ...answers, "--ca-file": [caFile] }), {}, checks);

    expect(seen[1]).toEqual(["checkPlace", { url: "https://gitlab.example.org", caFile }]);
    expect((await loadConfig({ file: configFile, env: {} })).gitlab.caFile).toBe(caFile);
  });

  test("what to make of a warning is theirs to say", async () => {
    const warn: Finding = { level: "warn", message: "not quite" };
    const { checks, seen } = someChecks({
      checkScope: [
        [ok, warn],
        [ok, warn],
      ],
    });

    await init(
      scriptedAsker({ ...answers, [SCOPE]: ["group", "group"], "--group": ["a", "b"], "": [false, true] }),
      {},
      checks,
    );

    expect(seen.at(-1)).toEqual(["checkScope", { kind: "group", name: "b" }]);
  });

  test("nothing that was given is asked for", async () => {
    const asker = scriptedAsker({});
    const tokenFile = join(directory.path, "my.token");
    await writeFile(tokenFile, "glpat-file\n", { mode: 0o600 });

    const result = await init(asker, {
      url: "https://gitlab.example.org",
      tokenFile,
      project: "12",
      webhookUrl: "https://fr.example.org/webhook",
    });

    expect(asker.asked).toEqual([]);
    expect(result.files).toHaveLength(2);
    const config = await loadConfig({ file: configFile, env: {} });
    expect(config.webhook).toMatchObject({ project: "12", apiTokenFile: tokenFile });
    expect(config.webhook?.secrets.apiToken.reveal()).toBe("glpat-file");
  });

  test("whoever leaves at any question leaves nothing behind", async () => {
    for (const option of ["--url", TOKEN, SCOPE, "--group", "--webhook-url"]) {
      const asker = scriptedAsker({ ...answers, [option]: [canceled()] });

      await expect(init(asker), option).rejects.toMatchObject({ code: "cli_canceled" });
      expect(await filesIn(directory.path), option).toEqual([]);
    }
  });

  test("what is there is replaced only when they say so", async () => {
    await mkdir(join(directory.path, "etc"));
    await writeFile(configFile, "mine");
    await writeFile(join(directory.path, "etc", "api.token"), "glpat-mine");

    await expect(init(scriptedAsker({ "--force": [false] }))).rejects.toMatchObject({ code: "cli_canceled" });
    await expect(init(scriptedAsker({ ...answers, "--force": [true, false] }))).rejects.toMatchObject({
      code: "cli_canceled",
    });
    expect(await readFile(configFile, "utf8")).toBe("mine");
    expect(await filesIn(directory.path)).toEqual(["etc", "etc/api.token", "etc/config.yaml"]);

    await init(scriptedAsker({ ...answers, "--force": [true, true] }));
    expect((await loadConfig({ file: configFile, env: {} })).webhook?.group).toBe("engineering");
  });

  test("a signing key that GitLab may know already is kept", async () => {
    const other = `whsec_${"o".repeat(42)}A=`;
    await mkdir(join(directory.path, "etc"));
    await writeFile(join(directory.path, "etc", "webhook.key"), other, { mode: 0o600 });

    const { files } = await init(scriptedAsker(answers));

    expect(files.map((file) => file.split("/").at(-1))).toEqual(["api.token", "config.yaml"]);
    expect(await readFile(join(directory.path, "etc", "webhook.key"), "utf8")).toBe(other);
  });
});

describe("the public server", () => {
  const pem = (what: string) => `-----BEGIN ${what}-----\nx\n-----END ${what}-----\n`;

  test("with a certificate of its own asks for both files until they are right", async () => {
    const [certificate, secret] = [join(directory.path, "c.pem"), join(directory.path, "k.pem")];
    await writeFile(certificate, pem("CERTIFICATE"));
    await writeFile(secret, pem("EC PRIVATE KEY"), { mode: 0o600 });
    const asker = scriptedAsker({
      ...answers,
      "--webhook-url": ["tls", "https://fr.example.org:8443/webhook"],
      "--certificate": [join(directory.path, "no.pem"), secret, certificate],
      "--certificate-key": [secret],
    });

    await init(asker);

    expect(asker.shown.filter(({ level }) => level === "fail")).toEqual([
      { level: "fail", message: expect.stringContaining("no.pem does not exist") },
      { level: "fail", message: expect.stringContaining("no PEM file with a certificate") },
    ]);
    expect((await loadConfig({ file: configFile, env: {} })).http).toMatchObject({
      listen: ["0.0.0.0:8443"],
      tls: { certificateFile: certificate, keyFile: secret },
    });
  });

  test("may be left out: jobs are found by looking, and the file says how to add it", async () => {
    const { hasListener, files } = await init(scriptedAsker({ ...answers, "--webhook-url": ["none"] }));

    expect([hasListener, files.length]).toEqual([false, 2]);
    expect((await loadConfig({ file: configFile, env: {} })).http.listen).toEqual([]);
    expect(await readFile(configFile, "utf8")).toContain("# http:");
  });
});

describe("with nobody to ask", () => {
  const nobody = () => {
    const stderr = new PassThrough();
    return createSilentPrompter(createOutput({ stdout: new PassThrough(), stderr, env: {}, json: false }));
  };
  const given = { url: "https://gitlab.example.org", tokenText: "glpat-env", group: "g" };

  test("options are enough, and no listener is opened without its address", async () => {
    const result = await init(nobody(), given);

    expect(result.hasListener).toBe(false);
    expect((await loadConfig({ file: configFile, env: {} })).webhook?.secrets.apiToken.reveal()).toBe(
      "glpat-env",
    );
  });

  test.each([
    ["url", "--url"],
    ["tokenText", "--token-file or $FIRERUNNER_WEBHOOK__API_TOKEN"],
    ["group", "--group, --project or --instance"],
  ])("a missing %s names its option", async (name, option) => {
    const error = await init(nobody(), { ...given, [name]: undefined }).catch((thrown: unknown) => thrown);

    expect(error).toMatchObject({
      code: "cli_usage",
      hint: expect.stringContaining(`Answer with ${option};`),
    });
    expect(await filesIn(directory.path)).toEqual([]);
  });

  test("what is there is not touched without --force", async () => {
    await mkdir(join(directory.path, "etc"));
    await writeFile(configFile, "mine");

    await expect(init(nobody(), given)).rejects.toMatchObject({ hint: expect.stringContaining("--force") });
    await init(nobody(), { ...given, force: true });
    expect(await readFile(configFile, "utf8")).toContain('group: "g"');
  });

  test.each<[string, Partial<InitOptions>, keyof SetupChecks]>([
    ["address", {}, "checkPlace"],
    ["token", {}, "checkToken"],
    ["scope", {}, "checkScope"],
  ])("a wrong %s ends it with what is wrong and what to do", async (_what, more, check) => {
    const { checks } = someChecks({ [check]: [[fail]] });

    await expect(init(nobody(), { ...given, ...more }, checks)).rejects.toMatchObject({
      code: "cli_setup",
      message: "not so",
      hint: "do this",
    });
    expect(await filesIn(directory.path)).toEqual([]);
  });

  test.each<[string, Partial<InitOptions>, string]>([
    ["two scopes", { project: "p" }, "exclude each other"],
    ["a token of the wrong kind", { tokenText: "glrt-PLANTED" }, "holds a runner's authentication token"],
    ["a token file that is not there", { tokenFile: "/nowhere/x" }, "/nowhere/x does not exist"],
    [
      "a bad address of the public server",
      { webhookUrl: "fr.example.org" },
      "--webhook-url: An address such as",
    ],
    [
      "a certificate that is not there",
      { webhookUrl: "https://x", certificate: "/nowhere/c" },
      "/nowhere/c does not exist",
    ],
    [
      "an address to listen on that is none",
      { webhookUrl: "https://x/webhook", listen: "http://nonsense" },
      "expected host:port",
    ],
  ])("%s is refused before anything is written", async (_what, more, expected) => {
    const error = (await init(nobody(), { ...given, ...more }).catch((thrown: unknown) => thrown)) as Error;

    expect(error.message).toContain(expected);
    expect(error.message).not.toContain("PLANTED");
    expect(await filesIn(directory.path)).toEqual([]);
  });
});

test("whatever is typed stands in the file as it was meant", async () => {
  const odd = { ...answers, "--group": ["12"], "--url": ["https://gitlab.example.org:8443/git%20lab"] };

  await init(scriptedAsker(odd));

  const config = await loadConfig({ file: configFile, env: {} });
  expect(config.webhook?.group).toBe("12");
  expect(config.gitlab.url).toBe("https://gitlab.example.org:8443/git%20lab");
});
