import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import type { Project } from "@firerunner/gitlab-stand-in/model";
import type { NewPipeline } from "@firerunner/gitlab-stand-in/pipelines";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { guestFile } from "../../src/base/guest-files.ts";
import { directRoutes } from "../../src/base/proxy/routes.ts";
import { Secret } from "../../src/base/secret.ts";
import { CacheConfig } from "../../src/cache/config.ts";
import { openLocalStorage } from "../../src/cache/local-storage.ts";
import { CACHE_BUCKET } from "../../src/cache/request.ts";
import { type CacheId, digestOfKey } from "../../src/cache/rights.ts";
import { openS3Storage } from "../../src/cache/s3-storage.ts";
import type { CacheStorage } from "../../src/cache/storage.ts";
import type { CacheDefinition, JobDefinition } from "../../src/ci/definition.ts";
import { freePort } from "../../src/demo/workspace.ts";
import { createRelayBench, type RelayBench } from "./relay-bench.ts";

/**
 * Caches with runners, natively and in the shell: the stand-in, and GitLab's own, which has to be had by hand (FIRERUNNER_GITLAB_RUNNER, the
 * path of its program); and with versitygw (FIRERUNNER_VERSITYGW), an S3 server of others that checks signatures. What is not there is not run.
 */
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
/** Jobs of one chain come one after the other, with caches of their own. */
type Chain = readonly Step[];
const simple: Chain = [
  { name: "first", finds: "nothing", cache: {} },
  { name: "second", finds: "first", cache: {} },
  { name: "of a branch", finds: "nothing", cache: {}, pipeline: onBranch },
  { name: "falls back", finds: "second", cache: { key: "new", fallbackKeys: ["none", "deps"] } },
];
const failing: Chain = [
  { name: "fails", finds: "nothing", cache: { key: "f", when: "on_failure" }, fails: true },
  {
    name: "finds the failure",
    finds: "fails",
    cache: { key: "f", when: "on_failure", policy: "$HOW" },
    variables: { HOW: "pull" },
  },
];
const strange: Chain = [
  { name: "strange", finds: "nothing", cache: { key: "a b/é+c%/$CI_COMMIT_REF_SLUG" } },
  { name: "strange again", finds: "strange", cache: { key: "a b/é+c%/$CI_COMMIT_REF_SLUG" } },
];
const policies: Chain = [
  { name: "to begin with", finds: "nothing", cache: { key: "p" } },
  { name: "pulls", finds: "to begin with", cache: { key: "p", policy: "pull" } },
  { name: "pushes", finds: "nothing", cache: { key: "p", policy: "push" } },
  { name: "succeeds", finds: "pushes", cache: { key: "p", when: "on_failure" } },
  { name: "stores always", finds: "pushes", cache: { key: "p", when: "always" }, fails: true },
  { name: "finds always", finds: "stores always", cache: { key: "p" } },
];
const files: Chain = [
  { name: "of files", finds: "nothing", cache: { key: { files: ["lock"], prefix: "p" } } },
  { name: "of files again", finds: "of files", cache: { key: { files: ["lock"], prefix: "p" } } },
];
const hashes: Chain = [
  { name: "plain", finds: "nothing", cache: { key: "h" } },
  { name: "hashed", finds: "plain", cache: { key: "h" }, variables: hashed },
  { name: "plain after hashed", finds: "hashed", cache: { key: "h" } },
  {
    name: "hashed of a branch",
    finds: "nothing",
    cache: { key: "h" },
    variables: hashed,
    pipeline: onBranch,
  },
  { name: "hashed of main still", finds: "plain after hashed", cache: { key: "h" }, variables: hashed },
];
const unprotected: Chain = [
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

const runners: readonly [name: string, path: string | undefined, chains: readonly Chain[]][] = [
  ["the stand-in runner", guestFile("stand-in-runner"), [simple, failing, strange]],
  [
    ...(["GitLab's own runner", process.env["FIRERUNNER_GITLAB_RUNNER"]] as const),
    [simple, failing, strange, policies, files, hashes, unprotected],
  ],
];

describe.each(runners.filter(([, path]) => path !== undefined))("%s", (_, runner, chains) => {
  let bench: RelayBench;
  let project: Project;

  beforeAll(async () => {
    const sizes = { sizeBytes: 1e9, projectSizeBytes: 1e9, minFreeBytes: 0 };
    const own = await mkdtemp(join(directory, "caches-"));
    const storage = await openLocalStorage({ directory: own, site: "gitlab", ...sizes, clock: systemClock });
    const cache = { storage, settings: CacheConfig.parse({}), isKnownTo: async () => true };
    bench = await createRelayBench({ settings: { updatesPerMinute: 150 }, relay: { cache } });
    project = await bench.gitlab.projects.add({
      path: "group/cached",
      repository: { files: { lock: "1\n" } },
    });
  });
  afterAll(() => bench?.close());

  async function runJob(definition: Partial<JobDefinition>, pipeline?: NewPipeline) {
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

  async function play(chain: Chain): Promise<string[]> {
    const found: string[] = [];
    for (const { name, cache, variables = {}, fails, pipeline } of chain) {
      const definition = { name, variables, caches: [aCache(cache)] };
      const job = await runJob({ ...definition, script: fails ? [...script, "exit 1"] : script }, pipeline);
      found.push(`${name}: ${/FOUND (.*?)\r?$/m.exec(foundIn(job.trace.text()))?.[1]}`);
      expect(job.status, job.trace.text()).toBe(fails ? "failed" : "success");
    }
    return found;
  }

  test.concurrent("caches as with GitLab's own servers", { timeout: 4 * RUN_MS }, async () => {
    const found = await Promise.all(chains.map(play));

    expect(found).toEqual(chains.map((chain) => chain.map(({ name, finds }) => `${name}: ${finds}`)));
    expect(bench.gitlab.violations).toEqual([]);
  });

  test.concurrent("has several caches in one job", { timeout: RUN_MS }, async () => {
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
