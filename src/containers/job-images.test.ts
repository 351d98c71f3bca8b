import { createCipheriv } from "node:crypto";
import { chmod, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { imageOf, sha256Of, type TestImage, tarOf } from "../../test/builders/layer.ts";
import { temporaryDirectory } from "../../test/builders/temporary-directory.ts";
import { eventually } from "../../test/harness/eventually.ts";
import { indexOf, startImageRegistry } from "../../test/servers/image-registry.ts";
import { systemClock } from "../base/clock.ts";
import { directRoutes } from "../base/proxy/routes.ts";
import { Secret } from "../base/secret.ts";
import { MIB_BYTES } from "../base/units.ts";
import type { Credentials } from "../registry/credentials.ts";
import { hostArchitecture } from "./fetch/documents.ts";
import { type ImageProgress, type JobImages, openJobImages } from "./job-images.ts";
import type { PullPolicy } from "./resolve.ts";

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each[Symbol.asyncDispose]();
});

const sleeps: number[] = [];
/** Pauses take no time. */
const clock = {
  now: () => systemClock.now() + sleeps.reduce((sum, ms) => sum + ms, 0),
  sleep: async (ms: number) => void sleeps.push(ms),
};

async function start(login?: { username: string; password: string }) {
  sleeps.length = 0;
  const directory = await temporaryDirectory();
  const registry = await startImageRegistry(login ? { login } : {});
  open.push(directory, registry);
  const images = await opened(directory.path);
  return { registry, images, directory: directory.path };
}

async function opened(directory: string, sizeBytes = 1_000 * MIB_BYTES): Promise<JobImages> {
  const options = {
    directory,
    sizeBytes,
    minFreeBytes: 0,
    registries: new Map(),
    proxies: directRoutes,
    clock,
  };
  const images = await openJobImages(options);
  let isOpen = true;
  const close = async () => {
    if (isOpen) await images.close();
    isOpen = false;
  };
  open.push({ [Symbol.asyncDispose]: close });
  return { ...images, close };
}

/** The same each time, and not to be compressed. */
const random = (bytes: number, seed: number) =>
  createCipheriv("aes-128-ctr", Buffer.alloc(16, seed), Buffer.alloc(16)).update(Buffer.alloc(bytes));
const layer = (name: string, bytes = 50_000) => tarOf([{ path: name, content: random(bytes, name.length) }]);
const simple = imageOf([layer("a"), layer("bb")]);

interface Asking {
  readonly policy?: PullPolicy;
  readonly login?: Credentials;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: ImageProgress) => void;
  readonly patienceMs?: number;
}

async function prepare(images: JobImages, name: string, asking: Asking = {}) {
  const {
    policy = "always",
    login,
    signal = AbortSignal.timeout(60_000),
    patienceMs = 60_000,
    onProgress,
  } = asking;
  const credentials = () => login;
  const given = { signal, patienceMs, credentials, ...(onProgress ? { onProgress } : {}) };
  const [image] = await images.prepare([{ name, policy, isTrusted: true }], given);
  if (image === undefined) throw new Error("nothing was prepared");
  return image;
}

test("that others get is looked at without its layers, in the registry's words where it is nowhere", async () => {
  const { registry, images } = await start();
  registry.put("team/tool", "1", simple);
  const look = async (name: string) =>
    await images.look([{ name: `${registry.host}/${name}`, policy: "always", isTrusted: true }], {
      signal: AbortSignal.timeout(60_000),
      patienceMs: 1_000,
    });

  const reference = `${registry.host}/team/tool:1`;
  expect(await look("team/tool:1")).toEqual([{ reference, digest: simple.manifest.digest }]);
  expect(registry.asked().filter((line) => /blobs/.test(line))).toEqual([
    `GET blobs/${simple.config.digest}`,
  ]);
  await expect(look("team/tool:2")).rejects.toMatchObject({ code: "container_not_found" });
});

const password = (text: string): Credentials => ({
  kind: "password",
  username: "me",
  password: new Secret(text),
});

describe("an image", () => {
  test("is fetched once, and asked for with one HEAD from then on", async () => {
    const { registry, images } = await start();
    registry.put("team/tool", "1", simple);
    const seen: ImageProgress[] = [];

    const first = await prepare(images, `${registry.host}/team/tool:1`, {
      onProgress: (each) => seen.push(each),
    });
    const before = registry.asked().length;
    const second = await prepare(images, `${registry.host}/team/tool:1`);

    const total = simple.layers.reduce((sum, { blob }) => sum + blob.length, 0);
    expect(first).toMatchObject({ digest: simple.manifest.digest, isFromCache: false, fetchedBytes: total });
    expect(second).toMatchObject({
      disk: first.disk,
      isFromCache: true,
      fetchedBytes: 0,
      sizeBytes: first.sizeBytes,
    });
    expect(registry.asked().slice(before)).toEqual(["HEAD manifests/1"]);
    expect(seen.map(({ phase }) => phase)).toEqual(expect.arrayContaining(["resolve", "fetch", "compose"]));
    expect(seen.findLast(({ bytes }) => bytes)?.bytes).toEqual({ done: total, total });
  });

  test("that many want at one time is fetched and composed once", async () => {
    const { registry, images } = await start();
    registry.put("team/tool", "1", simple);

    const all = await Promise.all(
      Array.from({ length: 20 }, () => prepare(images, `${registry.host}/team/tool:1`)),
    );

    expect(new Set(all.map(({ disk }) => disk)).size).toBe(1);
    const blobs = registry
      .asked()
      .filter((line) => simple.layers.some(({ digest }) => line === `GET blobs/${digest}`));
    expect(blobs).toHaveLength(2);
  });

  test("that shares layers with another fetches only what is new", async () => {
    const { registry, images } = await start();
    const other = imageOf([layer("a"), layer("bb"), layer("ccc")]);
    registry.put("team/tool", "1", simple);
    registry.put("team/tool", "2", other);
    await prepare(images, `${registry.host}/team/tool:1`);

    const { fetchedBytes } = await prepare(images, `${registry.host}/team/tool:2`);

    expect(fetchedBytes).toBe(other.layers[2]?.blob.length);
  });

  test("is that of this computer's architecture", async () => {
    const { registry, images } = await start();
    const foreign = imageOf([layer("z")], { architecture: "mips" });
    const index = indexOf({
      unknown: foreign.manifest,
      mips: foreign.manifest,
      [hostArchitecture()]: simple.manifest,
    });
    registry.put("team/tool", "1", simple, index);
    registry.put("team/tool", "foreign", foreign);
    registry.put("team/tool", "none", foreign, indexOf({ mips: foreign.manifest }));

    expect((await prepare(images, `${registry.host}/team/tool:1`)).digest).toBe(index.digest);
    for (const tag of ["foreign", "none"])
      await expect(prepare(images, `${registry.host}/team/tool:${tag}`)).rejects.toMatchObject({
        code: "container_wrong_platform",
        message: /only for linux\/mips/,
      });
  });

  test("goes on from where a connection, or a process, ended", async () => {
    const { registry, images, directory } = await start();
    const big = imageOf([layer("big", 3 * MIB_BYTES)]);
    registry.put("team/tool", "1", big);
    const [{ digest, blob } = { digest: "", blob: Buffer.alloc(0) }] = big.layers;
    const part = sha256Of(`${registry.host} ${digest}`).slice(7);
    await writeFile(join(directory, "work", `1-1-${part}.part`), blob.subarray(0, 100_000));
    let cuts = 0;
    registry.fault = ({ path, headers }, response) => {
      if (!path.endsWith(digest) || cuts >= 2) return undefined;
      cuts += 1;
      const from = Number(/\d+/.exec(headers.range ?? "0")?.[0]);
      response.writeHead(206, {
        "content-range": `bytes ${from}-${blob.length - 1}/${blob.length}`,
        "content-length": blob.length - from,
      });
      response.write(blob.subarray(from, from + 500_000), () => response.destroy());
      return "answered";
    };

    const { fetchedBytes } = await prepare(images, `${registry.host}/team/tool:1`);

    expect(cuts).toBe(2);
    expect(fetchedBytes).toBeLessThanOrEqual(blob.length - 100_000);
    expect(sleeps.length).toBeGreaterThanOrEqual(2);
  });
});

describe("by its policy", () => {
  test("an image is looked for only where the policy says so", async () => {
    const { registry, images } = await start();
    registry.put("team/tool", "1", simple);
    const name = `${registry.host}/team/tool:1`;

    await expect(prepare(images, name, { policy: "never" })).rejects.toMatchObject({
      code: "container_not_here",
    });
    await prepare(images, name, { policy: "if-not-present" });
    const before = registry.asked().length;
    registry.put("team/tool", "1", imageOf([layer("newer")]));
    const kept = await prepare(images, name, { policy: "if-not-present" });
    const never = await prepare(images, name, { policy: "never" });
    const newer = await prepare(images, name);

    expect([kept.digest, never.digest]).toEqual([simple.manifest.digest, simple.manifest.digest]);
    expect(newer.digest).not.toBe(simple.manifest.digest);
    expect(registry.asked()[before]).toBe("HEAD manifests/1");
  });

  test("a job does not get by the cache what it may not read", async () => {
    const { registry, images } = await start({ username: "me", password: "right" });
    registry.put("team/tool", "1", simple);
    const name = `${registry.host}/team/tool:1`;
    const byDigest = `${registry.host}/team/tool@${simple.manifest.digest}`;
    await prepare(images, name, { login: password("right") });
    await prepare(images, byDigest, { login: password("right") });

    for (const policy of ["always", "if-not-present", "never"] as const)
      for (const wanted of [name, byDigest])
        for (const login of [undefined, password("wrong")])
          await expect(
            prepare(images, wanted, { policy, ...(login ? { login } : {}) }),
          ).rejects.toMatchObject({
            code: policy === "never" ? "container_not_here" : "container_denied",
          });
    expect(await prepare(images, name, { policy: "never", login: password("right") })).toMatchObject({
      isFromCache: true,
    });
  });
});

test("an image that a registry only says it has is not given from what others gave", async () => {
  const { registry, images } = await start({ username: "me", password: "right" });
  registry.put("team/secret", "1", simple);
  await prepare(images, `${registry.host}/team/secret:1`, { login: password("right") });
  const liar = await startImageRegistry();
  open.push(liar);
  // It knows all digests, and nothing of what they stand for.
  const documents = [simple.manifest, simple.config].map(({ digest }) => digest);
  let hasDocuments = false;
  liar.fault = ({ method, path }, response) => {
    const digest = /sha256:[0-9a-f]{64}$/.exec(path)?.[0] ?? simple.manifest.digest;
    if (method === "HEAD") response.writeHead(200, { "docker-content-digest": digest }).end();
    else if (hasDocuments && documents.includes(digest)) return undefined;
    else response.writeHead(404).end();
    return "answered";
  };

  for (const name of [`team/x:1`, `team/x@${simple.manifest.digest}`])
    await expect(prepare(images, `${liar.host}/${name}`)).rejects.toMatchObject({
      code: "container_not_found",
    });
  hasDocuments = true;
  liar.put("team/x", "1", simple);
  await expect(prepare(images, `${liar.host}/team/x:1`)).rejects.toMatchObject({
    code: "container_not_found",
  });
});

test("a layer that is called a document is not read as one", async () => {
  const { registry, images } = await start();
  const big = imageOf([layer("big", 5 * MIB_BYTES)]);
  registry.put("team/tool", "1", big);
  await prepare(images, `${registry.host}/team/tool:1`);
  registry.fault = ({ method }, response) => {
    if (method !== "HEAD") response.writeHead(404).end();
    else response.writeHead(200, { "docker-content-digest": big.layers[0]?.digest ?? "" }).end();
    return "answered";
  };

  await expect(prepare(images, `${registry.host}/team/tool:1`)).rejects.toMatchObject({
    code: "container_not_found",
  });
});

describe("a registry that", () => {
  const faults: Record<
    string,
    [code: string, status: number, headers: Record<string, string>, body: string]
  > = {
    "has no such image": [
      "container_not_found",
      404,
      {},
      '{"errors":[{"code":"NAME_UNKNOWN","message":"no"}]}',
    ],
    "forbids it": ["container_denied", 403, {}, '{"errors":[{"code":"DENIED","message":"no"}]}'],
    "is down": ["registry_unavailable", 503, {}, ""],
    "is busy for long": ["registry_unavailable", 429, { "retry-after": "7" }, ""],
    "is a web page": ["container_bad_image", 200, { "content-type": "text/html" }, "<html>welcome</html>"],
    "sends us round": ["registry_refused", 307, { location: "/v2/team/tool/manifests/1" }, ""],
  };

  test.each(Object.entries(faults))("%s ends it in words", async (_, [code, status, headers, body]) => {
    const { registry, images } = await start();
    registry.put("team/tool", "1", simple);
    registry.fault = (_request, response) => {
      response.writeHead(status, headers).end(body);
      return "answered";
    };

    await expect(prepare(images, `${registry.host}/team/tool:1`)).rejects.toMatchObject({ code });
    if (status === 429) expect(sleeps).toEqual(Array.from({ length: 8 }, () => 7_000));
  });

  test("has recovered is asked again", async () => {
    const { registry, images } = await start();
    registry.put("team/tool", "1", simple);
    let refused = 0;
    registry.fault = (_request, response) => {
      if (refused >= 6) return undefined;
      refused += 1;
      response.writeHead(refused % 2 === 0 ? 429 : 502, { "retry-after": "1" }).end();
      return "answered";
    };

    expect(await prepare(images, `${registry.host}/team/tool:1`)).toMatchObject({ isFromCache: false });
  });

  test.each([
    ["other bytes", (blob: Buffer) => Buffer.from(blob).reverse()],
    ["more bytes", (blob: Buffer) => Buffer.concat([blob, Buffer.alloc(10_000_000)])],
  ])("gives %s is not believed, and nothing is kept", async (_, spoil) => {
    const { registry, images, directory } = await start();
    registry.put("team/tool", "1", simple);
    const [{ digest, blob } = { digest: "", blob: Buffer.alloc(0) }] = simple.layers;
    registry.content.set(digest, spoil(blob));

    await expect(prepare(images, `${registry.host}/team/tool:1`)).rejects.toMatchObject({
      code: "container_bad_image",
    });

    expect(await readdir(join(directory, "blobs"))).not.toContain(digest.slice(7));
    expect(await readdir(join(directory, "disks"))).toEqual([]);
  });

  test("describes an image without end is not read to it", async () => {
    const { registry, images } = await start();
    registry.fault = ({ method }, response) => {
      response.writeHead(200);
      if (method === "HEAD") response.end();
      else {
        const more = () => {
          while (!response.destroyed && response.write(Buffer.alloc(65_536, 0x20)));
        };
        response.on("drain", more);
        more();
      }
      return "answered";
    };

    await expect(prepare(images, `${registry.host}/team/tool:1`)).rejects.toMatchObject({
      code: "container_bad_image",
    });
  });

  test("keeps its blobs elsewhere gives no login away", async () => {
    const { registry, images } = await start({ username: "me", password: "right" });
    const storage = await startImageRegistry();
    open.push(storage);
    registry.put("team/tool", "1", simple);
    storage.put("team/tool", "1", simple);
    registry.fault = ({ path }, response) => {
      if (!path.includes("/blobs/")) return undefined;
      response.writeHead(307, { location: `http://${storage.host}${path}` }).end();
      return "answered";
    };

    await prepare(images, `${registry.host}/team/tool:1`, { login: password("right") });

    expect(storage.server.seen.length).toBeGreaterThan(0);
    expect(storage.server.seen.filter(({ headers }) => headers.authorization)).toEqual([]);
  });

  test.each(["127.0.0.1:9", "169.254.169.254", "10.1.2.3:5000", "[::1]:5000"])(
    "a job names at %s is not asked",
    async (host) => {
      const { images } = await start();
      const wants = [{ name: `${host}/team/tool:1`, policy: "always" } as const];

      const preparing = images.prepare(wants, { signal: AbortSignal.timeout(20_000), patienceMs: 0 });

      await expect(preparing).rejects.toMatchObject({ code: "container_forbidden_address" });
    },
  );
});

test("who gives up ends nothing for the others", async () => {
  const { registry, images } = await start();
  registry.put("team/tool", "1", simple);
  const name = `${registry.host}/team/tool:1`;
  const leaves = new AbortController();
  const held = Promise.withResolvers<void>();
  registry.fault = ({ path }) => {
    if (simple.layers.some(({ digest }) => path.endsWith(digest))) held.resolve();
    return undefined;
  };

  const first = prepare(images, name, { signal: leaves.signal });
  const second = prepare(images, name);
  await held.promise;
  leaves.abort(new Error("no more"));

  await expect(first).rejects.toThrow("no more");
  expect(await second).toMatchObject({ digest: simple.manifest.digest });
});

describe("room", () => {
  const single = (name: string): TestImage => imageOf([layer(name, 400_000)]);

  test("is made by removing what was not used for longest, and never what a machine has", async () => {
    const { registry, images, directory } = await start();
    await images.close();
    for (const name of ["a", "bb", "ccc"]) registry.put("team/tool", name, single(name));
    const small = await opened(directory, 2.6 * MIB_BYTES);
    const name = (tag: string) => `${registry.host}/team/tool:${tag}`;
    const first = await prepare(small, name("a"));
    small.keeper.pin("fr-aaaaaaaa", [first.key]);
    const second = await prepare(small, name("bb"));
    // What was given out is left alone for a while.
    sleeps.push(3_600_000);

    await prepare(small, name("ccc"));

    const left = small.keeper.disks().map(({ key }) => key);
    expect(left).toContain(first.key);
    expect(left).not.toContain(second.key);
    expect(small.keeper.usedBytes()).toBeLessThanOrEqual(2.6 * MIB_BYTES);
  });

  test("is given back to machines, but for what they have", async () => {
    const { registry, images } = await start();
    for (const name of ["a", "bb"]) registry.put("team/tool", name, single(name));
    const [first, second] = [
      await prepare(images, `${registry.host}/team/tool:a`),
      await prepare(images, `${registry.host}/team/tool:bb`),
    ];
    images.keeper.pin("fr-aaaaaaaa", [first.key]);
    const given = images.keeper.evictableBytes();
    sleeps.push(3_600_000);
    const { keeper } = images;

    // What was given out just now is a machine's, as good as.
    expect(given).toBe(keeper.usedBytes() - first.sizeBytes - second.sizeBytes);
    expect(keeper.evictableBytes()).toBe(keeper.usedBytes() - first.sizeBytes);
    const used = keeper.usedBytes();
    expect(keeper.evict(1)).toBe(second.sizeBytes);
    expect(keeper.evict(Number.MAX_SAFE_INTEGER)).toBe(used - second.sizeBytes - first.sizeBytes);
    expect([keeper.usedBytes(), keeper.evictableBytes()]).toEqual([first.sizeBytes, 0]);
    expect(keeper.disks().map(({ key }) => key)).toEqual([first.key]);
  });

  test("is not taken for good by what was begun and given up", async () => {
    const { registry, images, directory } = await start();
    registry.put("team/tool", "a", single("a"));
    registry.put("team/tool", "bb", single("bb"));
    const [{ digest, blob } = { digest: "", blob: Buffer.alloc(0) }] = single("a").layers;
    const stop = new AbortController();
    registry.fault = ({ path, method }, response) => {
      if (method !== "GET" || !path.endsWith(digest)) return undefined;
      response.writeHead(200, { "content-length": blob.length });
      response.write(blob.subarray(0, 300_000));
      return "answered";
    };
    const parts = async () =>
      (await readdir(join(directory, "work"))).filter((name) => name.endsWith(".part"));
    const onProgress = ({ bytes }: ImageProgress) => {
      if (bytes?.done === 300_000) stop.abort(new Error("enough"));
    };

    const name = `${registry.host}/team/tool`;
    await expect(prepare(images, `${name}:a`, { signal: stop.signal, onProgress })).rejects.toThrow("enough");
    await eventually("the work has ended", () => images.keeper.evictableBytes() >= 300_000);
    expect([await parts(), images.keeper.usedBytes() >= 300_000]).toEqual([[expect.any(String)], true]);
    expect(images.keeper.evict(1)).toBe(300_000);

    expect(await parts()).toEqual([]);
    expect(await prepare(images, `${name}:bb`)).toMatchObject({ isFromCache: false });
  });

  test("that cannot be had is told", async () => {
    const { registry, images, directory } = await start();
    await images.close();
    registry.put("team/tool", "1", single("a"));
    const tiny = await opened(directory, 500_000);

    await expect(prepare(tiny, `${registry.host}/team/tool:1`)).rejects.toMatchObject({
      code: "container_no_space",
    });
  });

  test("is made by hand", async () => {
    const { registry, images } = await start();
    registry.put("team/tool", "1", simple);
    const { key } = await prepare(images, `${registry.host}/team/tool:1`);
    images.keeper.pin("fr-aaaaaaaa", [key]);
    sleeps.push(3_600_000);

    images.keeper.prune(0);
    expect(images.keeper.disks().map((disk) => [disk.key, disk.pinnedBy])).toEqual([[key, 1]]);
    images.keeper.unpin("fr-aaaaaaaa");
    images.keeper.prune(0);

    expect([images.keeper.disks(), images.keeper.usedBytes()]).toEqual([[], 0]);
  });
});

test("what is damaged is found, removed, and fetched again", async () => {
  const { registry, images } = await start();
  registry.put("team/tool", "1", simple);
  const name = `${registry.host}/team/tool:1`;
  const { key, disk } = await prepare(images, name);
  const blob = images.keeper.pathOf("blob", simple.layers[0]?.digest ?? "");
  await writeFile(blob, "no layer");
  await chmod(disk, 0o600);
  await writeFile(disk, "no disk");

  const { damaged } = await images.keeper.verify(AbortSignal.timeout(10_000));

  expect(damaged.toSorted()).toEqual([blob, disk].toSorted());
  expect(await prepare(images, name)).toMatchObject({ key, isFromCache: false });
  expect((await images.keeper.verify(AbortSignal.timeout(10_000))).damaged).toEqual([]);
});
