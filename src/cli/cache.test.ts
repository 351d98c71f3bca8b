import { chmod, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { temporaryDirectory } from "../../test/builders/temporary-directory.ts";
import { startS3Server } from "../../test/servers/s3-server.ts";
import { createManualClock } from "../base/manual-clock.ts";
import { directRoutes } from "../base/proxy/routes.ts";
import { Secret } from "../base/secret.ts";
import { DAY_MS } from "../base/units.ts";
import { CacheConfig, type S3Access } from "../cache/config.ts";
import { openCacheStorage } from "../cache/open-storage.ts";
import { digestOfKey, type Realm } from "../cache/rights.ts";
import { loadConfig } from "../config/load.ts";
import { runCli } from "./program.ts";

const GITLAB = "https://gitlab.example.com/gitlab";
const LONG = `${"key-of-a-matrix-with-many-words/".repeat(4)}end-protected`;

async function place(directory: string, cache: string): Promise<string> {
  const config = join(directory, "firerunner.yaml");
  const pools = "{ small: { size: { cpus: 1, memory: 1GiB }, runner: { token: glrt-0123456789 } } }";
  const lines = [`gitlab: { url: ${GITLAB} }`, `state: ${directory}`, `pools: ${pools}`, cache];
  await writeFile(config, lines.join("\n"), { mode: 0o600 });
  return config;
}

async function firerunner(config: string, ...args: string[]) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const argv = ["cache", ...args, "--config", config];
  const code = await runCli({ argv, env: {}, stdout, stderr, version: "0", executable: ["firerunner"] });
  stdout.end();
  stderr.end();
  return { code, out: await text(stdout), err: await text(stderr) };
}

interface Where {
  readonly state: string;
  readonly cache?: CacheConfig;
  readonly access?: S3Access;
  readonly at?: number;
}

/** As jobs have stored them. */
async function fill(
  { state, cache = CacheConfig.parse({}), access, at = Date.now() }: Where,
  names: [string, number, Realm][],
) {
  const clock = createManualClock(at);
  const where = { cache, state, access, proxies: directRoutes, gitlabUrl: GITLAB, clock };
  const storage = await openCacheStorage(where);
  for (const [key, projectId, realm] of names) {
    const cache = { key, bytes: 1_000, body: Readable.from([Buffer.alloc(1_000)]) };
    await storage.store({ projectId, realm, digest: digestOfKey(key) }, cache, AbortSignal.timeout(10_000));
  }
  await storage.close();
}

test("caches in the directory are listed within 80 columns, and removed as is said", async () => {
  await using directory = await temporaryDirectory();
  const state = directory.path;
  const config = await place(state, "");
  await fill({ state, at: Date.now() - 40 * DAY_MS }, [["old-protected", 7, "protected"]]);
  await fill({ state }, [
    [LONG, 7, "protected"],
    ["deps-non_protected", 8, "unprotected"],
  ]);

  const listed = await firerunner(config, "list");
  const json = JSON.parse((await firerunner(config, "list", "--json", "--project", "8")).out);
  const nothing = await firerunner(config, "prune");
  const old = await firerunner(config, "prune", "--unused-days", "30");
  const ofOne = await firerunner(config, "prune", "--project", "8", "--json");
  const left = JSON.parse((await firerunner(config, "list", "--json")).out);
  const all = await firerunner(config, "prune", "--all");

  expect(listed.out.split("\n").filter((line) => line.length > 80)).toEqual([]);
  expect(listed.out).toMatch(/old-protected +7 .*1000 B/);
  expect(listed.err).toContain(`3 caches with 2.9 KiB in ${state}/cache.`);
  expect(json).toMatchObject({
    usedBytes: 1_000,
    caches: [{ project: 8, branches: "others", key: "deps-non_protected" }],
  });
  expect(nothing).toMatchObject({ code: 2, err: expect.stringContaining("--unused-days 30") });
  expect(old.out).toContain("removed 1 cache, 1000 B");
  expect(JSON.parse(ofOne.out)).toMatchObject({ removed: 1, bytes: 1_000 });
  expect(left.caches).toMatchObject([{ key: LONG, usedAt: expect.any(Number) }]);
  expect(all.out).toContain("removed 1 cache");
});

test("caches on an S3 server are listed and removed with the configured keys, which nothing shows", async () => {
  await using directory = await temporaryDirectory();
  await using server = await startS3Server();
  const state = directory.path;
  await writeFile(join(state, "id"), `${server.accessKey}\n`, { mode: 0o600 });
  await writeFile(join(state, "word"), `${server.secretKey}\n`, { mode: 0o600 });
  const s3 = { endpoint: server.url, bucket: server.bucket, region: server.region, plaintext: true };
  const files = { accessKeyFile: "id", secretKeyFile: "word" };
  const config = await place(state, `cache: ${JSON.stringify({ s3: { ...s3, ...files } })}`);
  const access = {
    accessKey: new Secret(server.accessKey),
    secretKey: new Secret(server.secretKey),
    ca: undefined,
  };
  await fill({ state, access, cache: CacheConfig.parse({ s3: { ...s3, ...files } }) }, [
    ["deps-protected", 7, "protected"],
  ]);

  const listed = await firerunner(config, "list");
  const pruned = await firerunner(config, "prune", "--project", "7");
  server.faults.push((_, response) => void response.writeHead(403).end("<Code>AccessDenied</Code>"));
  const refused = await firerunner(config, "list");

  expect(listed.out).toContain("deps-protected");
  expect(pruned.out).toContain(`removed 1 cache, 1000 B, from ${server.url}/caches/firerunner`);
  expect(server.objects.size).toBe(0);
  expect(refused).toMatchObject({ code: 1, err: expect.stringContaining("403 (AccessDenied)") });
  for (const { out, err } of [listed, pruned, refused]) expect(out + err).not.toContain(server.secretKey);
});

test.each([
  ["--project", "none", "no id of a project"],
  ["--unused-days", "soon", "no number of days"],
])("%s %s is told to be %s", async (flag, value, words) => {
  await using directory = await temporaryDirectory();
  const config = await place(directory.path, "");

  expect(await firerunner(config, "prune", flag, value)).toMatchObject({
    code: 2,
    err: expect.stringContaining(words),
  });
});

test.each([
  ["an address without TLS, not said to be meant", "endpoint: 'http://s3.example'", "plaintext: true"],
  ["an address with a path", "endpoint: 'https://s3.example/bucket'", "without a path"],
  ["no bucket of that name", "endpoint: 'https://s3.example', bucket: UPPER", "bucket's name"],
])("an S3 server with %s is refused", async (_, given, words) => {
  await using directory = await temporaryDirectory();
  const bucket = given.includes("bucket:") ? "" : ", bucket: caches";
  const s3 = `{ ${given}${bucket}, accessKeyFile: id, secretKeyFile: word }`;
  const file = await place(directory.path, `cache: { s3: ${s3} }`);

  await expect(loadConfig({ file, env: {} })).rejects.toThrow(words);
});

test("keys of an S3 server that others may read, or that are none, are refused by their places", async () => {
  await using directory = await temporaryDirectory();
  const s3 = "{ endpoint: 'https://s3.example', bucket: caches, accessKeyFile: id, secretKeyFile: word }";
  const file = await place(directory.path, `cache: { s3: ${s3} }`);
  await writeFile(join(directory.path, "id"), "two words\n", { mode: 0o600 });
  await writeFile(join(directory.path, "word"), "secret", { mode: 0o600 });
  await chmod(join(directory.path, "word"), 0o644);

  const refused = loadConfig({ file, env: {} });

  await expect(refused).rejects.toThrow(/id holds more than a key/);
  await expect(refused).rejects.toThrow(/word.*holds a secret and everyone/);
});

test("sizes that contradict each other are refused", async () => {
  await using directory = await temporaryDirectory();
  const file = await place(directory.path, "cache: { size: 1GiB }");

  await expect(loadConfig({ file, env: {} })).rejects.toThrow(/projectSize at most size/);
});
