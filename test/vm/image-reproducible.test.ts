import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { guestFile } from "../../src/base/guest-files.ts";
import { buildImage } from "../../src/image/build.ts";
import { ImagesConfig } from "../../src/image/config.ts";
import { buildInitramfs } from "../../src/image/initramfs.ts";
import { buildRunnerLayer } from "../../src/image/runner.ts";
import { createImageStore } from "../../src/image/store.ts";
import { testImageDirectory } from "../harness/image.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "fr-reproducible-"));
});
afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

describe("the same packages", () => {
  test("give the same initramfs and runner layer, made at another time in another place", async () => {
    const store = createImageStore({ directory: testImageDirectory() });
    const { manifest } = await store.verify("base");
    const image = await store.resolve("base");
    const runnerLayer = join(directory, "runner.squashfs");

    const initramfs = await buildInitramfs(image.layers[0] ?? "", manifest.kernelVersion, directory);
    const { architecture, variant } = manifest;
    const layer = { runner: guestFile("stand-in-runner"), architecture, variant };
    await buildRunnerLayer(runnerLayer, layer, directory, undefined);

    expect(initramfs.equals(await readFile(image.initramfs))).toBe(true);
    expect((await readFile(runnerLayer)).equals(await readFile(image.layers[1] ?? ""))).toBe(true);
  });

  // Two whole builds take two minutes and more: `npm run test:reproducible` runs them.
  test.runIf(process.env["FIRERUNNER_REPRODUCE"])(
    "give the same image",
    async () => {
      const build = async (name: string) => {
        const options = {
          directory: join(directory, name),
          name: "base",
          variant: "base",
          config: ImagesConfig.parse({}),
          runner: { kind: "stand-in" },
          force: true,
          clock: systemClock,
        } as const;
        return (await buildImage(options, () => {})).manifest;
      };

      const first = await build("first");
      const second = await build("second");

      expect(second.files).toEqual(first.files);
      expect(second.digest).toBe(first.digest);
    },
    900_000,
  );
});
