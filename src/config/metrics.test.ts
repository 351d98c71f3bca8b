import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ConfigError } from "./errors.ts";
import { type Config, loadConfig } from "./load.ts";
import { diffConfig, mergeReloadable } from "./reload.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-config-"));
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

const base =
  "gitlab: { url: https://gitlab.example.com }\npools: { small: { runner: { token: glrt-one } } }\n";

async function load(metrics: string, token = ""): Promise<Config> {
  const file = join(directory, "firerunner.yaml");
  await writeFile(file, `${base}metrics: ${metrics}\n`, { mode: 0o600 });
  await writeFile(join(directory, "token"), token, { mode: 0o600 });
  return await loadConfig({ file, env: {}, root: true });
}

async function problemOf(metrics: string, token?: string): Promise<string> {
  const error = await load(metrics, token).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(ConfigError);
  return (error as ConfigError).problems.map(({ message }) => message).join();
}

const withToken = "{ listen: ['http://127.0.0.1:9252'], tokenFile: token }";

test("metrics are served nowhere unless an address is named", async () => {
  expect((await load("{}")).metrics).toMatchObject({ listen: [], allow: [], token: undefined });
});

test("the token is read from its file, and shown nowhere", async () => {
  const { metrics, values } = await load(withToken, "a-long-token\n");

  expect(metrics.token?.reveal()).toBe("a-long-token");
  expect(JSON.stringify([metrics, values])).not.toContain("a-long-token");
});

test.each([
  ["", "is empty"],
  ["short", "too short"],
  ["two words of it", "one line without spaces"],
  ["glpat-abcdefghij", "holds a personal access token"],
  ["glrt-abcdefghij", "holds a runner's authentication token"],
])("a token file with “%s” is refused: %s", async (token, words) => {
  expect(await problemOf(withToken, token)).toContain(words);
});

test("a token file that others can read is refused", async () => {
  await load(withToken, "a-long-token");
  await chmod(join(directory, "token"), 0o644);
  const file = join(directory, "firerunner.yaml");

  await expect(loadConfig({ file, env: {}, root: true })).rejects.toThrow(/token.*everyone/s);
});

test("TLS files are looked for beside the configuration, and named when they are missing", async () => {
  const words = await problemOf(
    "{ listen: ['0.0.0.0:9252'], tls: { certificateFile: c.pem, keyFile: k.pem } }",
  );

  expect(words).toContain(`${join(directory, "c.pem")} does not exist`);
});

test.each([
  ["{ listen: ['http://0.0.0.0:9252'] }", "without TLS on this computer alone"],
  ["{ listen: ['0.0.0.0:9252'] }", "speaks TLS"],
  ["{ allow: [10.0.0.0/99] }", "expected an address or a range"],
  ["{ compatibility: prometheus }", "gitlab-runner"],
])("%s is refused: %s", async (metrics, words) => {
  expect(await problemOf(metrics)).toContain(words);
});

test("a reload takes over the token and the allow-list, and says of the address that it waits", async () => {
  const before = await load(withToken, "a-long-token");
  const after = await load(
    "{ listen: ['http://127.0.0.1:9999'], tokenFile: token, allow: [127.0.0.1] }",
    "another-token",
  );

  const { live, restart } = diffConfig(before, after);
  expect(live).toEqual(["metrics: another token", expect.stringContaining("metrics.allow")]);
  expect(restart).toEqual([expect.stringContaining("metrics.listen")]);
  const merged = mergeReloadable(before, after).metrics;
  expect(merged).toMatchObject({ listen: ["http://127.0.0.1:9252"], allow: ["127.0.0.1"] });
  expect(merged.token?.reveal()).toBe("another-token");
});
