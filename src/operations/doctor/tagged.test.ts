import { randomBytes } from "node:crypto";
import { createStandInGitLab, type StandInGitLab } from "@firerunner/gitlab-stand-in/stand-in";
import { createRestDouble } from "@firerunner/gitlab-stand-in/test-clients";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../base/clock.ts";
import { HOUR_MS } from "../../base/units.ts";
import { type Config, loadConfig } from "../../config/load.ts";
import type { Finding } from "./findings.ts";
import { taggedChecks } from "./tagged.ts";

const url = "https://firerunner.example.org/webhook";
const signingKey = `whsec_${randomBytes(32).toString("base64")}`;
let gitlab: StandInGitLab;

beforeEach(async () => {
  gitlab = createStandInGitLab();
  await gitlab.listen();
  await gitlab.projects.add({ path: "top/sub/app" });
});

afterEach(async () => {
  await gitlab.close();
});

async function configured(token: string, more = "group: top"): Promise<Config> {
  const webhook = `{ ${more}, apiToken: "${token}", signingKey: "${signingKey}", url: "${url}", installation: me }`;
  const text = `gitlab: { url: "${gitlab.url}" }\nwebhook: ${webhook}\nhttp: { listen: ["http://127.0.0.1:0"] }`;
  return await loadConfig({ file: "/f.yaml", env: {}, readFile: async () => ({ text, mode: 0o600 }) });
}

async function look(token: string, more?: string): Promise<Record<string, Finding>> {
  const config = await configured(token, more);
  if (!config.webhook) throw new Error("there is no webhook in the configuration");
  const checks = taggedChecks({ config, webhook: config.webhook, clock: systemClock });
  const signal = AbortSignal.timeout(10_000);
  return Object.fromEntries(
    await Promise.all(checks.map(async ({ name, run }) => [name, await run(signal)] as const)),
  );
}

test("where all is set up, all is well, and nothing has been changed in GitLab", async () => {
  const { token } = gitlab.tokens.add({ scopes: ["api"] });
  await using api = disposable(createRestDouble(gitlab.url, token));
  const switches = { job_events: true, pipeline_events: true, push_events: false };
  await api.post("/groups/501/hooks", { url, signing_token: signingKey, ...switches });
  const asked = gitlab.requests.length;

  const found = await look(token);

  expect(found).toMatchObject({
    "API token": { level: "ok" },
    scope: { level: "ok", message: expect.stringContaining("group top is there") },
    runners: { level: "ok" },
    webhook: { level: "ok", message: "hook 1 leads here and works" },
  });
  expect(gitlab.requests.slice(asked).filter(({ method }) => method !== "GET")).toEqual([]);
  expect(gitlab.violations).toEqual([]);
});

test("without a hook and with a role that is too low jobs may still run, and each thing is told", async () => {
  const { token } = gitlab.tokens.add({ scopes: ["api"], role: "maintainer", memberOf: "top" });

  const found = await look(token);

  expect(found).toMatchObject({
    "API token": { level: "ok" },
    scope: { level: "warn", hint: expect.stringContaining("Owner") },
    webhook: { level: "warn" },
  });
});

test("scopes that are missing are named one by one, and the end of the token is foretold", async () => {
  const inFiveDays = new Date(Date.now() + 5 * 24 * HOUR_MS).toISOString().slice(0, 10);
  const { token } = gitlab.tokens.add({ scopes: ["read_api"], expiresAt: inFiveDays });

  const { "API token": finding } = await look(token);

  expect(finding?.level).toBe("fail");
  expect(finding?.message).toMatch(/ends soon.*create_runner.*manage_runner/);
});

test.each([
  ["group: nowhere", "scope"],
  ["project: top/nothing", "scope"],
])("%s is not there", async (scope, check) => {
  const { token } = gitlab.tokens.add({ scopes: ["api"] });

  const found = await look(token, scope);

  expect(found[check]).toMatchObject({ level: "fail", hint: expect.any(String) });
  expect(found["API token"]).toMatchObject({ level: "ok" });
});

test("a token that GitLab does not know fails, and is in no word of it", async () => {
  const found = await look("glpat-PLANTED-in-the-configuration");

  expect(found).toMatchObject({ "API token": { level: "fail" }, scope: { level: "fail" } });
  expect(JSON.stringify(found)).not.toContain("PLANTED");
});

test("a GitLab that does not answer", async () => {
  const { token } = gitlab.tokens.add({ scopes: ["api"] });
  await gitlab.down();

  const found = await look(token);
  await gitlab.up();

  expect(found).toMatchObject({
    "API token": { level: "fail" },
    runners: { level: "warn" },
    webhook: { level: "warn" },
  });
});

function disposable<T extends { close(): Promise<void> }>(thing: T): T & AsyncDisposable {
  return { ...thing, [Symbol.asyncDispose]: () => thing.close() };
}
