import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { imageOf, tarOf } from "../../../test/builders/layer.ts";
import { temporaryDirectory } from "../../../test/builders/temporary-directory.ts";
import { startImageRegistry } from "../../../test/servers/image-registry.ts";
import { systemClock } from "../../base/clock.ts";
import { directRoutes } from "../../base/proxy/routes.ts";
import { MIB_BYTES } from "../../base/units.ts";
import { loadConfig } from "../../config/load.ts";
import { openJobImages } from "../../containers/job-images.ts";
import { lookAtImages } from "./job-images.ts";

test("doctor says how much images of jobs have, which are not at hand, and that no more can come", async () => {
  await using directory = await temporaryDirectory();
  await using registry = await startImageRegistry();
  registry.put("team/tool", "1", imageOf([tarOf([{ path: "a", content: "a" }])]));
  const name = `${registry.host}/team/tool:1`;
  const configured = async (warm: string[], minFree = "1MiB") => {
    const file = join(directory.path, "firerunner.yaml");
    const settings = {
      gitlab: { url: "https://gitlab.example.com" },
      state: directory.path,
      pools: { small: { runner: { token: "glrt-one" } } },
      images: { warm },
      containers: { cache: { minFree } },
    };
    await writeFile(file, JSON.stringify(settings), { mode: 0o600 });
    return await loadConfig({ file, env: {} });
  };

  const before = await lookAtImages(await configured([]));
  const wanted = await lookAtImages(await configured([name]));
  const bad = await lookAtImages(await configured(["UPPER:1"]));
  const images = await openJobImages({
    ...{ directory: join(directory.path, "containers"), sizeBytes: 100 * MIB_BYTES, minFreeBytes: 0 },
    ...{ registries: new Map(), proxies: directRoutes, clock: systemClock },
  });
  const wants = [{ name, policy: "always", isTrusted: true } as const];
  await images.prepare(wants, { signal: AbortSignal.timeout(60_000) });
  await images.close();

  expect(before).toMatchObject({ level: "ok", message: expect.stringContaining("none yet") });
  expect(wanted).toMatchObject({ level: "warn", message: expect.stringContaining(name) });
  expect(bad).toMatchObject({ level: "fail", message: expect.stringContaining("UPPER:1") });
  expect(await lookAtImages(await configured([name]))).toMatchObject({
    level: "ok",
    message: expect.stringContaining("of 40 GiB"),
  });
  expect(await lookAtImages(await configured([name, "node:24"]))).toMatchObject({
    level: "warn",
    message: expect.stringMatching(/names it: node:24$/),
  });
  expect(await lookAtImages(await configured([name], "900TiB"))).toMatchObject({
    level: "fail",
    message: expect.stringContaining("no room for images"),
  });
});
