import { afterEach, expect, test } from "vitest";
import { imageOf, tarOf } from "../../test/builders/layer.ts";
import { createRecordingLog } from "../../test/builders/recording-log.ts";
import { temporaryDirectory } from "../../test/builders/temporary-directory.ts";
import { eventually } from "../../test/harness/eventually.ts";
import { startImageRegistry } from "../../test/servers/image-registry.ts";
import { systemClock } from "../base/clock.ts";
import { createManualClock } from "../base/manual-clock.ts";
import { directRoutes } from "../base/proxy/routes.ts";
import { MIB_BYTES, MINUTE_MS } from "../base/units.ts";
import { openJobImages } from "./job-images.ts";
import { createWarmImages } from "./warm.ts";

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each[Symbol.asyncDispose]();
});

const image = (content: string) => imageOf([tarOf([{ path: "a", content }])]);

async function start() {
  const directory = await temporaryDirectory();
  const registry = await startImageRegistry();
  open.push(directory, registry);
  const images = await openJobImages({
    ...{ directory: directory.path, sizeBytes: 1_000 * MIB_BYTES, minFreeBytes: 0 },
    ...{ registries: new Map(), proxies: directRoutes },
    clock: { now: systemClock.now, sleep: () => Promise.reject(new Error("no patience")) },
  });
  open.push({ [Symbol.asyncDispose]: () => images.close() });
  return { registry, images, name: `${registry.host}/team/tool:1` };
}

test("an image is kept at hand, follows its tag, and what goes wrong is said", async () => {
  const { registry, images, name } = await start();
  const clock = createManualClock();
  const { log, lines } = createRecordingLog();
  const names = [name];
  const warm = createWarmImages({ names: () => names, images: async () => images, clock, log });
  open.push({ [Symbol.asyncDispose]: () => warm.stop() });
  const [old, newer] = [image("old"), image("newer")];
  const whenLooked = async (digest: string, problem: string | undefined) =>
    await eventually("it has looked", () => {
      const [state] = warm.status();
      return state?.digest === digest && (state.problem === undefined) === (problem === undefined);
    });
  // It sleeps once a look is over.
  const rest = () => eventually("it rests", () => clock.nextWake() !== undefined);
  registry.put("team/tool", "1", old);

  warm.start();
  await whenLooked(old.manifest.digest, undefined);
  expect(images.keeper.disks().map(({ manifest }) => manifest)).toEqual([old.manifest.digest]);
  registry.put("team/tool", "1", newer);
  await rest();
  await clock.advance(15 * MINUTE_MS);
  await whenLooked(newer.manifest.digest, undefined);

  registry.fault = (_request, response) => {
    response.writeHead(404).end('{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such thing"}]}');
    return "answered";
  };
  await rest();
  await clock.advance(15 * MINUTE_MS);
  await whenLooked(newer.manifest.digest, "gone");
  expect(warm.status()[0]?.problem).toContain(`there is no image ${name}`);
  expect(lines.filter((line) => line.includes("making the disk"))).toHaveLength(2);
  await rest();
  await clock.advance(2 * MINUTE_MS);
  await rest();
  registry.fault = (_request, response) => {
    response.writeHead(503).end();
    return "answered";
  };
  await clock.advance(2 * MINUTE_MS);
  await eventually("it waits", () => lines.some((line) => line.includes("waiting for the registry")));
  await rest();
  expect(lines.filter((line) => line.includes("making the disk"))).toHaveLength(2);
  registry.fault = undefined;
  await clock.advance(2 * MINUTE_MS);
  await whenLooked(newer.manifest.digest, undefined);

  expect(lines.filter((line) => line.startsWith("warn"))).toHaveLength(2);
  expect(lines.filter((line) => line.includes("an image is at hand"))).toHaveLength(2);
  names.pop();
  expect(warm.status()).toEqual([]);
});

test("images that are only kept at hand take no place from those that jobs wait for", async () => {
  const { registry, images, name } = await start();
  registry.put("team/tool", "1", image("a job's"));
  const slow = Array.from({ length: 6 }, (_, number) => image(`slow ${number}`));
  for (const [number, each] of slow.entries()) registry.put("team/slow", `${number}`, each);
  let held = 0;
  registry.fault = ({ path, method }) => {
    if (method !== "GET" || !slow.some(({ layers }) => path.endsWith(layers[0]?.digest ?? "")))
      return undefined;
    held += 1;
    return "answered";
  };
  const stop = new AbortController();
  const aside = slow.map((_, number) => {
    const wants = [
      { name: `${registry.host}/team/slow:${number}`, policy: "always", isTrusted: true } as const,
    ];
    return images.prepare(wants, { signal: stop.signal, isAside: true }).catch(() => "stopped");
  });
  await eventually("all are under way", () => held === slow.length);

  const wants = [{ name, policy: "always", isTrusted: true } as const];
  const [prepared] = await images.prepare(wants, { signal: AbortSignal.timeout(60_000) });

  expect(prepared?.isFromCache).toBe(false);
  stop.abort();
  expect(new Set(await Promise.all(aside))).toEqual(new Set(["stopped"]));
});
