import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { directRoutes } from "../../src/base/proxy/routes.ts";
import { MIB_BYTES } from "../../src/base/units.ts";
import { openJobImages } from "../../src/containers/job-images.ts";
import { imageOf, tarOf } from "../builders/layer.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import { startImageRegistry } from "../servers/image-registry.ts";

const KILLS = 6;
const program = join(import.meta.dirname, "../programs/fetch-job-images.ts");

test("processes that are killed at any moment leave whole files, or none, to those that go on beside and after them", async () => {
  await using directory = await temporaryDirectory();
  await using registry = await startImageRegistry();
  const names = ["1", "2"].map((tag) => {
    const layers = ["base", `own${tag}`].map((name) =>
      tarOf([{ path: name, content: Buffer.alloc(300_000, name) }]),
    );
    registry.put("team/tool", tag, imageOf(layers, { pack: (archive) => archive }));
    return `${registry.host}/team/tool:${tag}`;
  });
  const children = new Set<ReturnType<typeof start>>();
  function start() {
    const child = spawn(process.execPath, [program, directory.path, String(500 * MIB_BYTES), ...names], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    return child;
  }

  // Two at a time, so that one is always at work while another dies.
  for (let kill = 0; kill < KILLS; kill++) {
    const child = start();
    children.add(child);
    await once(child.stdout, "data");
    await pause(kill * 97);
    if (children.size < 2) continue;
    const [eldest] = children;
    children.delete(eldest ?? child);
    const ended = once(eldest ?? child, "close");
    eldest?.kill("SIGKILL");
    expect(await ended).toEqual([null, "SIGKILL"]);
  }
  for (const child of children) {
    const ended = once(child, "close");
    child.kill("SIGKILL");
    await ended;
  }

  const options = {
    sizeBytes: 500 * MIB_BYTES,
    minFreeBytes: 0,
    registries: new Map(),
    proxies: directRoutes,
  };
  const images = await openJobImages({ directory: directory.path, clock: systemClock, ...options });
  const { damaged } = await images.keeper.verify(AbortSignal.timeout(20_000));
  const left = await readdir(join(directory.path, "work"));
  const known = [images.keeper.blobs().length, images.keeper.disks().length];
  const files = await Promise.all(
    ["blobs", "disks"].map(async (name) => (await readdir(join(directory.path, name))).length),
  );
  const wants = names.map((name) => ({ name, policy: "always", isTrusted: true }) as const);
  const prepared = await images.prepare(wants, { signal: AbortSignal.timeout(60_000) });
  await images.close();

  expect(damaged).toEqual([]);
  expect(left.filter((name) => !name.endsWith(".part"))).toEqual([]);
  expect(known).toEqual(files);
  expect(prepared.map(({ reference }) => reference)).toEqual(names);
});
