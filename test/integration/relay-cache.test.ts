import { createHash } from "node:crypto";
import { readdirSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Project } from "@firerunner/gitlab-stand-in/model";
import type { NewPipeline } from "@firerunner/gitlab-stand-in/pipelines";
import { Agent, request } from "undici";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { MIB_BYTES } from "../../src/base/units.ts";
import { CacheConfig } from "../../src/cache/config.ts";
import { type LocalStorage, openLocalStorage } from "../../src/cache/local-storage.ts";
import type { CacheDefinition } from "../../src/ci/definition.ts";
import { spoken } from "../harness/raw-socket.ts";
import {
  type BenchMachine,
  createRelayBench,
  type RelayBench,
  type RelayBenchOptions,
} from "./relay-bench.ts";

let bench: RelayBench;
let directory: string;
let storage: LocalStorage;
let told: string[];
const onCache = (operation: string, result: string) => void told.push(`${operation} ${result}`);

beforeEach(async () => {
  told = [];
  directory = await mkdtemp(join(tmpdir(), "fr-relay-cache-"));
});
afterEach(async () => {
  await bench.close();
  await rm(directory, { recursive: true });
});

async function start(settings: object = {}, options: RelayBenchOptions = {}): Promise<void> {
  const sizes = { sizeBytes: 64 * MIB_BYTES, projectSizeBytes: 32 * MIB_BYTES, minFreeBytes: 0 };
  storage = await openLocalStorage({ directory, site: "gitlab", ...sizes, clock: systemClock });
  const cache = { storage, settings: CacheConfig.parse(settings), isKnownTo: async () => true, onCache };
  bench = await createRelayBench({ ...options, relay: { cache, ...options.relay } });
}

function aCache(given: Partial<CacheDefinition> = {}): CacheDefinition {
  const usual = { paths: ["out/"], untracked: false, policy: "pull-push", when: "on_success" } as const;
  return { key: "deps", ...usual, unprotect: false, fallbackKeys: [], ...given };
}

/** A machine whose job has a cache, with its payload. */
async function aMachine(
  project?: Project,
  pipeline?: NewPipeline,
  caches = [aCache()],
): Promise<BenchMachine> {
  const machine = await bench.machine({ caches }, undefined, project, pipeline);
  await machine.handOver();
  return machine;
}

const onBranch = { protectedRef: false };

interface Given {
  readonly body?: string | Buffer;
  readonly headers?: Record<string, string>;
}

async function ask(
  { socketPath }: BenchMachine,
  method: "GET" | "HEAD" | "PUT",
  path: string,
  given: Given = {},
) {
  const dispatcher = new Agent({ connect: { socketPath } });
  try {
    const wanted = { method, dispatcher, headers: given.headers ?? {}, body: given.body ?? null } as const;
    const { statusCode, headers, body } = await request(`http://relay/firerunner-cache/${path}`, wanted);
    return { status: statusCode, headers, text: await body.text() };
  } finally {
    await dispatcher.close();
  }
}

const placeOf = ({ job }: BenchMachine, key: string) => `project/${job.project.id}/${key}`;
const put = (machine: BenchMachine, key: string, body: string | Buffer, headers = {}) =>
  ask(machine, "PUT", placeOf(machine, key), { body, headers });
const get = (machine: BenchMachine, key: string) => ask(machine, "GET", placeOf(machine, key));
const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

async function brokenRules({ id }: BenchMachine): Promise<string[]> {
  const events = await bench.store.events({ machineId: id });
  return events.flatMap((event) => (event.kind === "guest:refused" ? [event.detail.rule] : []));
}

describe("a job's cache", () => {
  test("is there for the next job of the project, by plain and by hashed name, whole and in parts", async () => {
    await start();
    const content = Buffer.alloc(3 * MIB_BYTES, "0123456789");
    const stored = await put(await aMachine(), "deps-protected?X-Amz-Signature=0", content, {
      "content-type": "application/octet-stream",
      "x-amz-meta-cachekey": "deps-protected",
    });
    const next = await aMachine();
    const digest = sha256("deps-protected");

    const found = await ask(next, "HEAD", placeOf(next, `${digest.slice(0, 2)}/${digest}`));
    const fetched = await get(next, "deps-protected");
    const part = await ask(next, "GET", placeOf(next, digest), { headers: { range: "bytes=10-14" } });
    const missed = await get(next, "other-protected");
    const beyond = await ask(next, "GET", placeOf(next, digest), { headers: { range: "bytes=9999999-" } });

    expect([stored.status, found.status, fetched.status, missed.status]).toEqual([200, 200, 200, 404]);
    expect(found.headers).toMatchObject({
      ...{ "content-length": String(content.length), "x-amz-meta-cachekey": "deps-protected" },
      "last-modified": expect.stringMatching(/GMT$/),
    });
    expect(fetched.text === content.toString()).toBe(true);
    expect([part.status, part.text, part.headers["content-range"]]).toEqual([
      ...[206, "01234", `bytes 10-14/${content.length}`],
    ]);
    expect(missed.text).toContain("<Code>NoSuchKey</Code>");
    expect(beyond.status).toBe(416);
    const fetches = ["fetch success", "fetch success", "fetch miss", "fetch success"];
    expect(told).toEqual(["store success", ...fetches]);
  });

  test("is in the payload, and the log says nothing of it; where nobody keeps it, it is not, and the log says why", async () => {
    await start({}, { relay: {} });
    const kept = await bench.machine({ caches: [aCache()] });
    const payload = await kept.handOver();
    await bench.close();
    bench = await createRelayBench();
    const lost = await bench.machine({ caches: [aCache()] });
    const without = await lost.handOver();
    await expect.poll(() => lost.job.trace.text()).toContain("cache: deps-protected” is ignored");

    expect([payload["cache"], without["cache"]]).toEqual([
      [expect.objectContaining({ key: "deps-protected" })],
      [],
    ]);
    expect(kept.job.trace.text()).not.toContain("cache");
    expect((await get(lost, "deps-protected")).status).toBe(404);
  });

  test("outlives the relay, and the machine that stored it", async () => {
    await start();
    const machine = await aMachine();
    await put(machine, "deps-protected", "content");
    await bench.relay.close(machine.id);
    const sizes = { sizeBytes: 1e9, projectSizeBytes: 1e9, minFreeBytes: 0 };
    const again = await openLocalStorage({ directory, site: "gitlab", ...sizes, clock: systemClock });

    expect((await again.list({})).map(({ key }) => key)).toEqual(["deps-protected"]);
  });

  test("of a machine on another host is kept as well", async () => {
    await start({}, { network: true });
    const machine = await aMachine();
    const { host } = new URL(machine.url);
    const path = `/firerunner-cache/${placeOf(machine, "deps-protected")}`;
    const raw = (text: string) => {
      const [name, port] = host.split(":");
      const socket = connect({ host: name ?? "", port: Number(port) });
      socket.write(text);
      return spoken(socket);
    };
    const end = "Host: r\r\nConnection: close\r\n";

    expect(await raw(`PUT ${path} HTTP/1.1\r\n${end}Content-Length: 3\r\n\r\nabc`)).toContain("200 OK");
    expect(await raw(`GET ${path} HTTP/1.1\r\n${end}\r\n`)).toMatch(/200 OK[\s\S]*abc$/);
  });

  test("shared by unprotect is shared", async () => {
    await start();
    const main = await aMachine(undefined, undefined, [aCache({ unprotect: true })]);
    await put(main, "deps-non_protected", "from main");

    expect((await get(await aMachine(undefined, onBranch), "deps-non_protected")).text).toBe("from main");
  });
});

describe("a guest that wants other caches than its own", () => {
  test("has none of another project, under whatever name, and it is written down", async () => {
    await start();
    const other = await bench.gitlab.projects.add({ path: "other/secret" });
    const theirs = await aMachine(other);
    await put(theirs, "deps-protected", "secret");
    const mine = await aMachine();
    const [me, them] = [mine.job.project.id, other.id];
    const names = [
      `project/${them}/deps-protected`,
      `project/${them}/${sha256("deps-protected")}`,
      `project/${me}/../${them}/deps-protected`,
      `project/${me}/%2e%2e/${them}/deps-protected`,
      `project/${me}/..%2f${them}%2fdeps-protected`,
      `project/${me}/../../project/${them}/protected/${sha256("deps-protected")}`,
      `project/0${them}/deps-protected`,
      `runner/x/project/${them}/deps-protected`,
    ];
    for (const name of names) expect(await raw(mine, "GET", name), name).toMatch(/^HTTP\/1.1 (?:403|404) /);
    // A key that climbs is a key of one's own.
    for (const name of names) await raw(mine, "PUT", name, "poison");

    expect((await get(await aMachine(other), "deps-protected")).text).toBe("secret");
    expect(await brokenRules(mine)).toContain("cache-of-another-project");
  });

  test("of a branch that is not protected has none of the protected ones, and puts nothing in their place", async () => {
    await start();
    const main = await aMachine();
    await put(main, "deps-protected", "built on main");
    const branch = await aMachine(undefined, onBranch);
    const digest = sha256("deps-protected");
    const hashed = [digest, `${digest.slice(0, 2)}/${digest}`];

    const names = ["deps-protected", ...hashed];
    for (const name of names) expect((await get(branch, name)).status, name).toBe(404);
    for (const name of names) {
      for (const key of ["deps-protected", "deps-non_protected", "", undefined])
        await put(branch, name, "poison", key === undefined ? {} : { "x-amz-meta-cachekey": key });
    }
    const unbuilt = sha256("new-protected");
    await put(branch, unbuilt, "poison");
    await put(branch, unbuilt, "poison", { "x-amz-meta-cachekey": "new-protected" });

    const next = await aMachine();
    for (const name of ["deps-protected", ...hashed])
      expect((await get(next, name)).text, name).toBe("built on main");
    expect((await get(next, "new-protected")).status).toBe(404);
    expect((await get(next, unbuilt)).status).toBe(404);
  });

  test("has none once its job has ended, nor with a job that names none", async () => {
    await start();
    const machine = await aMachine();
    await put(machine, "deps-protected", "content");
    const without = await aMachine(undefined, undefined, []);
    await bench.store.finishJob(machine.job.id, "success", { cause: "script" });

    expect([
      (await get(machine, "deps-protected")).status,
      (await get(without, "deps-protected")).status,
    ]).toEqual([403, 403]);
  });

  test("is held to GitLab's endings where those decide", async () => {
    await start({ separate: "gitlab" });
    const project = await bench.gitlab.projects.add({ path: "group/shared" });
    project.separateCaches = false;
    await put(await aMachine(project), "deps", "from main");
    const branch = await aMachine(project, onBranch);
    expect((await get(branch, "deps")).text).toBe("from main");

    const apart = await aMachine(undefined, onBranch);
    expect((await get(apart, "deps-protected")).status).toBe(404);
    expect((await put(apart, "deps-protected", "poison")).status).toBe(403);
    expect(await brokenRules(apart)).toEqual(["cache-of-other-branches"]);
  });
});

describe("a guest that wants too much", () => {
  test("may upload a cache of so much, with its length, and so much in all", async () => {
    await start({ objectSize: "2MiB", projectSize: "5MiB" });
    const machine = await aMachine();
    const [two, three] = [Buffer.alloc(2 * MIB_BYTES), Buffer.alloc(3 * MIB_BYTES)];
    const path = `/firerunner-cache/${placeOf(machine, "deps-protected")}`;
    const unsaid = `PUT ${path} HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\na\r\n0\r\n\r\n`;

    const large = await put(machine, "a-protected", three);
    const answers = [large.status, await statusOf(machine, unsaid)];
    for (const key of ["a", "b", "c"]) answers.push((await put(machine, `${key}-protected`, two)).status);

    expect(answers).toEqual([413, 411, 200, 200, 413]);
    expect(large.text).toContain(
      "<Message>a cache may have 2 MiB, this one has 3 MiB (cache.objectSize)</Message>",
    );
    expect((await put(await aMachine(), "c-protected", two)).status).toBe(200);
  });

  test("that breaks off leaves the cache that was there, and no file", async () => {
    await start();
    const machine = await aMachine();
    await put(machine, "deps-protected", "before");
    const socket = connect({ path: machine.socketPath });
    const head = `PUT /firerunner-cache/${placeOf(machine, "deps-protected")} HTTP/1.1\r\nHost: r\r\nContent-Length: 1000000\r\n\r\n`;
    socket.on("error", () => {}).write(`${head}${"x".repeat(200_000)}`);
    const work = () => readdirSync(join(directory, "work"));
    await expect.poll(() => work().length).toBe(1);
    socket.destroy();
    await expect.poll(() => work().length).toBe(0);

    expect((await get(machine, "deps-protected")).text).toBe("before");
  });

  test("is told in words when the disk is full", async () => {
    await start();
    const { directory: place } = { directory: join(directory, "full") };
    const sizes = { sizeBytes: 1e9, projectSizeBytes: 1e9, minFreeBytes: 10 };
    const full = await openLocalStorage({
      ...{ directory: place, site: "gitlab", ...sizes, clock: systemClock },
      freeBytes: async () => 0,
    });
    await bench.close();
    const cache = { storage: full, settings: CacheConfig.parse({}), isKnownTo: async () => true, onCache };
    bench = await createRelayBench({ relay: { cache } });
    const answer = await put(await aMachine(), "deps-protected", "content");

    expect([answer.status, answer.text]).toEqual([
      507,
      expect.stringContaining("has no room for this cache"),
    ]);
    expect(answer.text).not.toContain(directory);
    expect(told).toEqual(["store failure"]);
  });
});

/** A request with its path as it stands, which clients would tidy up. */
async function raw({ socketPath }: BenchMachine, method: string, name: string, body = ""): Promise<string> {
  const socket = connect({ path: socketPath });
  socket.write(
    `${method} /firerunner-cache/${name} HTTP/1.1\r\nHost: r\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  return await spoken(socket);
}

async function statusOf({ socketPath }: BenchMachine, text: string): Promise<number> {
  const socket = connect({ path: socketPath });
  socket.write(text);
  return Number(/^HTTP\/1.1 (\d{3})/.exec(await spoken(socket))?.[1]);
}
