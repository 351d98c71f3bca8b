import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { imageOf, sha256Of } from "../../test/builders/layer.ts";
import { aJobImagesFixture, layer, password, prepare, simple } from "../../test/harness/job-images.ts";
import { indexOf } from "../../test/servers/image-registry.ts";
import { MIB_BYTES } from "../base/units.ts";
import { hostArchitecture } from "./fetch/documents.ts";
import type { ImageProgress } from "./job-images.ts";

const fixture = aJobImagesFixture();
const { sleeps, start } = fixture;

afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
});

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
