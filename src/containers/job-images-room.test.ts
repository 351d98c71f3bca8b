import { chmod, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { imageOf, type TestImage } from "../../test/builders/layer.ts";
import { eventually } from "../../test/harness/eventually.ts";
import { aJobImagesFixture, layer, prepare, simple } from "../../test/harness/job-images.ts";
import { MIB_BYTES } from "../base/units.ts";
import type { ImageProgress } from "./job-images.ts";

const fixture = aJobImagesFixture();
const { sleeps, start, opened } = fixture;

afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
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
