import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import type { NewPipeline } from "@firerunner/gitlab-stand-in/pipelines";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { directRoutes } from "../../src/base/proxy/routes.ts";
import { Secret } from "../../src/base/secret.ts";
import { CacheConfig } from "../../src/cache/config.ts";
import { type LocalStorage, openLocalStorage } from "../../src/cache/local-storage.ts";
import { CACHE_BUCKET } from "../../src/cache/request.ts";
import { type CacheId, digestOfKey } from "../../src/cache/rights.ts";
import { openS3Storage } from "../../src/cache/s3-storage.ts";
import type { CacheStorage } from "../../src/cache/storage.ts";
import type { CacheDefinition, JobDefinition } from "../../src/ci/definition.ts";
import { createRelayBench, type RelayBench } from "./relay-bench.ts";

/**
 * Caches with programs of others, which have to be had by hand: GitLab's runner (FIRERUNNER_GITLAB_RUNNER, the path of its program), natively
 * with the shell executor, and versitygw (FIRERUNNER_VERSITYGW), an S3 server that checks signatures. Without them nothing of this is run.
 */
const runner = process.env["FIRERUNNER_GITLAB_RUNNER"];
const versitygw = process.env["FIRERUNNER_VERSITYGW"];

const RUN_MS = 60_000;

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-by-hand-"));
});
afterAll(() => rm(directory, { recursive: true }));

const script = [
  "mkdir -p out",
  "if [ -f out/word ]; then echo FOUND $(cat out/word); else echo FOUND nothing; fi",
  "echo $CI_JOB_NAME > out/word",
];

function aCache(given: Partial<CacheDefinition> = {}): CacheDefinition {
  const usual = { paths: ["out/"], untracked: false, policy: "pull-push", when: "on_success" } as const;
  return { key: "deps", ...usual, unprotect: false, fallbackKeys: [], ...given };
}

/** A job of its name, with what it is to find of what an earlier one has left: its name, or nothing. */
interface Step {
  readonly name: string;
  readonly finds: string;
  readonly cache: Partial<CacheDefinition>;
  readonly variables?: Readonly<Record<string, string>>;
  readonly fails?: true;
  readonly pipeline?: NewPipeline;
}

const hashed = { FF_HASH_CACHE_KEYS: "true" };
const onBranch = { protectedRef: false };
const steps: readonly Step[] = [
  { name: "first", finds: "nothing", cache: {} },
  { name: "second", finds: "first", cache: {} },
  { name: "pulls", finds: "second", cache: { policy: "pull" } },
  { name: "pushes", finds: "nothing", cache: { policy: "push" } },
  { name: "policy of a variable", finds: "pushes", cache: { policy: "$HOW" }, variables: { HOW: "pull" } },
  { name: "falls back", finds: "pushes", cache: { key: "new", fallbackKeys: ["none", "deps"] } },
  { name: "stores its failure", finds: "nothing", cache: { key: "f", when: "on_failure" }, fails: true },
  { name: "succeeds", finds: "stores its failure", cache: { key: "f", when: "on_failure" } },
  { name: "finds the failure", finds: "stores its failure", cache: { key: "f", when: "always" } },
  { name: "of files", finds: "nothing", cache: { key: { files: ["lock"], prefix: "p" } } },
  { name: "of files again", finds: "of files", cache: { key: { files: ["lock"], prefix: "p" } } },
  { name: "strange", finds: "nothing", cache: { key: "a b/é+c%/$CI_COMMIT_REF_SLUG" } },
  { name: "strange again", finds: "strange", cache: { key: "a b/é+c%/$CI_COMMIT_REF_SLUG" } },
  { name: "hashed", finds: "pushes", cache: {}, variables: hashed },
  { name: "plain after hashed", finds: "hashed", cache: {} },
  { name: "of a branch", finds: "nothing", cache: {}, pipeline: onBranch },
  { name: "hashed of a branch", finds: "of a branch", cache: {}, variables: hashed, pipeline: onBranch },
  { name: "of main still", finds: "plain after hashed", cache: {} },
  { name: "for everybody", finds: "nothing", cache: { key: "u", unprotect: true } },
  { name: "by everybody", finds: "for everybody", cache: { key: "u" }, pipeline: onBranch },
  {
    name: "for everybody, hashed",
    finds: "by everybody",
    cache: { key: "u", unprotect: true },
    variables: hashed,
  },
  {
    ...{ name: "falls back for all", finds: "for everybody, hashed", cache: { key: "none" } },
    variables: { CACHE_FALLBACK_KEY: "u-non_protected" },
  },
];

describe.skipIf(runner === undefined)("GitLab's own runner", () => {
  let bench: RelayBench;
  let storage: LocalStorage;

  beforeAll(async () => {
    const sizes = { sizeBytes: 1e9, projectSizeBytes: 1e9, minFreeBytes: 0 };
    storage = await openLocalStorage({ directory, site: "gitlab", ...sizes, clock: systemClock });
    const cache = { storage, settings: CacheConfig.parse({}), isKnownTo: async () => true };
    bench = await createRelayBench({ settings: { updatesPerMinute: 150 }, relay: { cache } });
  });
  afterAll(() => bench?.close());

  async function runJob(definition: Partial<JobDefinition>, pipeline?: NewPipeline) {
    const project =
      bench.gitlab.projects.at("group/cached") ??
      (await bench.gitlab.projects.add({ path: "group/cached", repository: { files: { lock: "1\n" } } }));
    const machine = await bench.machine(definition, undefined, project, pipeline);
    const home = await mkdtemp(join(directory, "machine-"));
    const address = new URL(machine.url).host;
    const args = [
      ...["run-single", "--url", machine.url, "--executor", "shell", "--shell", "bash", "--max-builds", "1"],
      ...["--builds-dir", join(home, "builds"), "--cache-dir", join(home, "cache"), "--cache-type", "s3"],
      ...["--cache-shared", "--cache-s3-server-address", address, "--cache-s3-insecure"],
      ...["--cache-s3-bucket-name", CACHE_BUCKET, "--cache-s3-bucket-location", "us-east-1"],
      ...["--cache-s3-access-key", "none", "--cache-s3-secret-key", "none"],
    ];
    // A proxy that is nowhere: caches reach the relay without it.
    const ways = { http_proxy: "http://127.0.0.1:1", no_proxy: "127.0.0.1" };
    const env = { PATH: process.env["PATH"], HOME: home, CI_SERVER_TOKEN: machine.machineToken, ...ways };
    const child = spawn(runner ?? "", args, { cwd: home, env, stdio: "ignore" });
    await ended(child);
    return machine.job;
  }

  test("caches as with GitLab's own servers, through all keywords", { timeout: 4 * RUN_MS }, async () => {
    const found: string[] = [];
    for (const { name, cache, variables = {}, fails, pipeline } of steps) {
      const definition = { name, variables, caches: [aCache(cache)] };
      const job = await runJob({ ...definition, script: fails ? [...script, "exit 1"] : script }, pipeline);
      found.push(`${name}: ${/^.*FOUND (?!\$)(?:.*O )?(.*?)\r?$/m.exec(foundIn(job.trace.text()))?.[1]}`);
      expect(job.status, job.trace.text()).toBe(fails ? "failed" : "success");
    }

    expect(found).toEqual(steps.map(({ name, finds }) => `${name}: ${finds}`));
    expect(bench.gitlab.violations).toEqual([]);
  });

  test("has several caches in one job", { timeout: RUN_MS }, async () => {
    const caches = [aCache({ key: "one" }), aCache({ key: "two", paths: ["two/"] })];
    await runJob({ name: "stores two", caches, script: [...script, "mkdir -p two", "echo 2 > two/word"] });
    const job = await runJob({ name: "finds two", caches, script: ["echo FOUND $(cat out/word two/word)"] });

    expect(foundIn(job.trace.text())).toContain("FOUND stores two 2");
  });
});

/** What the script printed, and not the line that shows the command. */
function foundIn(log: string): string {
  return log
    .split("\n")
    .filter((line) => line.includes("FOUND ") && !line.includes("$("))
    .join("\n");
}

async function ended(child: ChildProcess): Promise<void> {
  await new Promise((resolve) => child.once("close", resolve));
}

describe.skipIf(versitygw === undefined)("an S3 server of others, which checks signatures", () => {
  const [accessKey, secretKey] = ["by-hand", "secret/with+letters"];
  let child: ChildProcess;
  let port: number;

  beforeAll(async () => {
    await mkdir(join(directory, "buckets/caches"), { recursive: true });
    port = await freePort();
    const args = [
      "--access",
      accessKey,
      "--secret",
      secretKey,
      "--port",
      `127.0.0.1:${port}`,
      "posix",
      join(directory, "buckets"),
    ];
    child = spawn(versitygw ?? "", args, { stdio: "ignore" });
  });
  afterAll(async () => {
    child?.kill("SIGKILL");
    if (child) await ended(child);
  });

  function storageWith(secret: string): CacheStorage {
    return openS3Storage({
      settings: { endpoint: `http://127.0.0.1:${port}`, bucket: "caches", region: "us-east-1" },
      access: { accessKey: new Secret(accessKey), secretKey: new Secret(secret), ca: undefined },
      ...{ prefix: "firerunner", site: "gitlab.example.com", proxies: directRoutes, clock: systemClock },
    });
  }

  test("stores, finds, gives in parts, lists and removes caches, and refuses the wrong key", {
    timeout: RUN_MS,
  }, async () => {
    const signal = AbortSignal.timeout(RUN_MS);
    const storage = storageWith(secretKey);
    const key = "é k/ü+%-protected";
    const id: CacheId = { projectId: 7, realm: "protected", digest: digestOfKey(key) };
    await expect
      .poll(() => storage.find(id, signal).catch(() => "not yet"), { timeout: 20_000 })
      .toBeUndefined();
    const content = Buffer.alloc(3_000_000, "0123456789");
    await storage.store(id, { key, bytes: content.length, body: Readable.from([content]) }, signal);
    const object = await storage.find(id, signal);
    if (!object) throw new Error("it is not there");
    const whole = await storage.read(object, { first: 0, last: object.bytes - 1 }, signal);
    const part = await storage.read(object, { first: 10, last: 14 }, signal);
    const wrong = storageWith("another");

    expect(object).toMatchObject({ key, bytes: content.length });
    expect(whole && (await buffer(whole)).equals(content)).toBe(true);
    expect(part && (await text(part))).toBe("01234");
    await expect(wrong.find(id, signal)).rejects.toMatchObject({ code: "cache_server_refused" });
    expect(await storage.list({ projectId: 7 }, signal)).toMatchObject([{ id, key, bytes: content.length }]);
    await storage.remove({ ...object, usedAt: undefined }, signal);
    expect(await storage.list({}, signal)).toEqual([]);
    await Promise.all([storage.close(), wrong.close()]);
  });
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
