import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { storeImage } from "../../test/builders/stored-image.ts";
import { abilityNames } from "../domain/images.ts";
import { withRoots } from "./open-images.ts";
import { createImageStore, type ImageStore } from "./store.ts";
import { remember } from "./store-records.ts";

const pinned = (digit: string) => `registry.example.org/ci/ubuntu@sha256:${digit.repeat(64)}`;
const publication = {
  ...{ registry: "registry.example.org", name: "firerunner", tags: ["latest"], pushedAt: 0 },
  ...{ kernel: "registry.example.org/firerunner/kernel@sha256:1", root: "…/root@sha256:2" },
};

let directory: string;
let images: ImageStore;
let roots: Record<string, { root: string; base: string }>;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "roots-"));
  await storeImage(directory, "base", { kernel: Buffer.from("kernel"), containerInfo: {} });
  roots = { ubuntu: { root: pinned("a"), base: "base" } };
  images = withRoots(createImageStore({ directory }), () => roots);
});
afterEach(() => rm(directory, { recursive: true }));

async function push(): Promise<void> {
  const base = await images.find("base");
  await remember(base?.directory ?? "", publication);
}

test("a root is booted by the kernel of a pushed image, and brings no file of its own", async () => {
  await push();
  const [base, ubuntu] = [await images.resolve("base"), await images.resolve("ubuntu")];

  expect(base.containerRunnerInfo).toBeDefined();
  expect(base.published).not.toHaveProperty("cloudInit");
  expect(ubuntu).toEqual({
    ...base,
    digest: expect.stringMatching(/^sha256:[0-9a-f]{64}$/),
    layers: [],
    containerRunnerInfo: undefined,
    abilities: abilityNames,
    published: { ...base.published, root: pinned("a"), cloudInit: true },
  });
  expect(ubuntu.digest).not.toBe(base.digest);
});

test("it is found by its digest as long as it is configured, and another root is another image", async () => {
  const { digest } = await images.resolve("ubuntu");
  expect(await images.resolve(digest)).toEqual(await images.resolve("ubuntu"));
  roots = { ubuntu: { root: pinned("b"), base: "base" } };

  expect((await images.resolve("ubuntu")).digest).not.toBe(digest);
  await expect(images.resolve(digest)).rejects.toMatchObject({ code: "image_missing" });
});

test("it is not there for hosts while what boots it was not pushed, and missing while that is", async () => {
  roots["debian"] = { root: pinned("c"), base: "other" };

  expect((await images.resolve("ubuntu")).published).toBeUndefined();
  await expect(images.resolve("debian")).rejects.toMatchObject({ code: "image_missing" });
  expect(await images.resolve((await images.resolve("ubuntu")).digest)).toBeDefined();
});

test("what boots it is verified, and images of this computer are as they were", async () => {
  const [base, ubuntu] = [await images.verify("base"), await images.verify("ubuntu")];

  expect(ubuntu).toEqual({ ...base, image: await images.resolve("ubuntu") });
  expect(await images.resolve(base.image.digest)).toEqual(await images.resolve("base"));
});
