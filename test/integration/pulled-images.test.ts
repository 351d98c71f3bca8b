import { afterEach, describe, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { directRoutes } from "../../src/base/proxy/routes.ts";
import { Secret } from "../../src/base/secret.ts";
import { MIB_BYTES } from "../../src/base/units.ts";
import type { NamedRegistry } from "../../src/containers/config.ts";
import { openJobImages } from "../../src/containers/job-images.ts";
import { imageOf, type TestImage, tarOf } from "../builders/layer.ts";
import type { PoolOverrides } from "../builders/pool.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import { type ImageRegistry, indexOf, startImageRegistry } from "../servers/image-registry.ts";
import { type BenchMachine, createRelayBench, type RelayBench } from "./relay-bench.ts";

/** What a machine gets that pulls the images of its job: real relay, real cache, a strict registry on loopback. */
const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each[Symbol.asyncDispose]();
});

const anImageOf = (content: string) =>
  imageOf([tarOf([{ path: content, content }]), tarOf([{ path: "b", content }])]);
const [own, other] = [anImageOf("own"), anImageOf("other")];
const index = indexOf({ amd64: own.manifest, arm64: own.manifest });
const types = ["application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json"].join(
  ", ",
);
const login = { username: "me", password: "right" };
const operators = { login: { kind: "password", username: "me", password: new Secret("right") } } as const;

interface Setup {
  readonly egress?: PoolOverrides["egress"] | ((host: string) => string[]);
  readonly login?: typeof login;
  /** Undefined for a registry that the operator has not named. */
  readonly named?: Partial<NamedRegistry> | undefined;
  readonly pulled?: readonly { readonly image: string; readonly isTrusted?: boolean }[] | "unknown";
  readonly auth?: string;
  readonly sizeBytes?: number;
}

interface World {
  readonly registry: ImageRegistry;
  readonly bench: RelayBench;
  readonly machine: BenchMachine;
  readonly prefix: string;
  get(path: string, method?: string): Promise<{ status: number; body: Buffer }>;
}

async function start(setup: Setup = {}): Promise<World> {
  const { egress = "none", named = {}, pulled = [{ image: "team/tool:1" }], auth } = setup;
  const directory = await temporaryDirectory();
  const registry = await startImageRegistry(setup.login ? { login: setup.login } : {});
  open.push(directory, registry);
  registry.put("team/tool", "1", own, index);
  registry.put("team/tool", "2", other);
  registry.put("team/other", "1", other);
  const { host } = registry;
  const isNamed = !("named" in setup && setup.named === undefined);
  const images = await openJobImages({
    ...{ directory: directory.path, sizeBytes: setup.sizeBytes ?? 1_000 * MIB_BYTES, minFreeBytes: 0 },
    registries: new Map(isNamed ? [[host, { plaintext: true, ...named }]] : []),
    ...{ proxies: directRoutes, clock: systemClock },
  });
  open.push({ [Symbol.asyncDispose]: () => images.close() });
  const pulledImages = async () => {
    if (pulled === "unknown") throw new Error("its pool is not configured any more");
    return pulled.map(({ image, isTrusted = false }) => ({ name: `${host}/${image}`, isTrusted }));
  };
  const bench = await createRelayBench({
    pool: { egress: typeof egress === "function" ? egress(host) : egress },
    relay: { mirror: images.mirror, inContainers: async () => pulled !== "unknown", pulledImages },
  });
  open.push({ [Symbol.asyncDispose]: () => bench.close() });
  const config = JSON.stringify({ auths: { [host]: { auth } } });
  const machine = await bench.machine(
    auth === undefined ? {} : { variables: { DOCKER_AUTH_CONFIG: config } },
  );
  await machine.handOver();
  const prefix = `/v2/${host.replace(":", "__")}`;
  const get = async (path: string, method = "GET") => {
    const answer = await fetch(`${machine.url}${prefix}/${path}`, { method, headers: { accept: types } });
    return { status: answer.status, body: Buffer.from(await answer.arrayBuffer()) };
  };
  return { registry, bench, machine, prefix, get };
}

const documentsOf = ({ manifest }: TestImage) => [`manifests/${manifest.digest}`];
const blobsOf = ({ config, layers }: TestImage) => [config, ...layers].map(({ digest }) => `blobs/${digest}`);
const partsOf = (image: TestImage) => [...documentsOf(image), ...blobsOf(image)];
const seenOf = ({ registry }: World) => registry.server.seen.map(({ path }) => path);

describe("a machine that pulls its job's images", () => {
  test.each([
    ["none", "none"],
    ["a list without the registry", ["elsewhere.example.org:443"]],
    ["internet, for a private address", "internet"],
  ] as const)("gets them whole with egress: %s", async (_, egress) => {
    const { get } = await start({ egress });

    const head = await get("team/tool/manifests/1", "HEAD");
    const byTag = await get("team/tool/manifests/1");
    const parts = await Promise.all(partsOf(own).map((part) => get(`team/tool/${part}`)));

    expect([head.status, byTag.body.equals(index.body)]).toEqual([200, true]);
    const bodies = [own.manifest.body, own.config.body, ...own.layers.map(({ blob }) => blob)];
    expect(parts.map(({ body }, at) => body.equals(bodies[at] ?? Buffer.alloc(0)))).toEqual(
      bodies.map(() => true),
    );
  });

  test("by its digest, where the job names that, and then by no tag", async () => {
    const { get } = await start({ pulled: [{ image: `team/tool@${own.manifest.digest}` }] });

    for (const part of partsOf(own))
      expect([part, (await get(`team/tool/${part}`)).status]).toEqual([part, 200]);
    expect((await get("team/tool/manifests/1")).status).toBe(403);
  });

  test("gets nothing else from there, in the words of a machine that pulls none", async () => {
    const world = await start();
    const { get, registry } = world;
    const none = await start({ pulled: [] });
    await get("team/tool/manifests/1");
    const wanted = [
      "team/tool/manifests/2",
      "team/other/manifests/1",
      "team/tool/manifests/latest",
      ...partsOf(other).map((part) => `team/tool/${part}`),
      ...partsOf(own).map((part) => `team/other/${part}`),
      `team/tool/blobs/sha256:${"5".repeat(64)}`,
    ];

    for (const path of wanted) {
      const [answer, usual] = [await get(path), await none.get(path)];
      expect([path, answer.status]).toEqual([path, 403]);
      expect(answer.body.toString().replaceAll(registry.host, none.registry.host)).toBe(
        usual.body.toString(),
      );
    }
    expect(seenOf(world).filter((path) => !path.includes("team/tool/manifests/"))).toEqual([]);
    expect(seenOf(world).filter((path) => path.includes(other.manifest.digest))).toEqual([]);
    expect(seenOf(none)).toEqual([]);
  });

  test("says nothing of its own to the registry: no login, no media type, and no place to begin", async () => {
    const { get, registry, machine, prefix } = await start({ sizeBytes: 1_000 });
    const ask = async (path: string, headers: Record<string, string>) => {
      const answer = await fetch(`${machine.url}${prefix}/team/tool/${path}`, { headers });
      return { status: answer.status, body: Buffer.from(await answer.arrayBuffer()) };
    };
    await get("team/tool/manifests/1");
    await get(`team/tool/manifests/${own.manifest.digest}`);
    const [layer] = own.layers;
    if (layer === undefined) throw new Error("there is no layer");

    const byLogin = await ask("manifests/1", { authorization: `Basic ${btoa("a-word:of-its-own")}` });
    const byType = await ask("manifests/1", { accept: "application/a-word-of-its-own" });
    const byPlace = await ask(`blobs/${layer.digest}`, { range: "bytes=17-" });

    expect([byLogin.status, byType.status]).toEqual([403, 200]);
    expect([byPlace.status, byPlace.body.equals(layer.blob.subarray(17))]).toEqual([206, true]);
    const words = registry.server.seen.map(({ path, headers }) => JSON.stringify([path, headers]));
    expect(words.filter((text) => /word|of-its-own|bytes=[1-9]/.test(text))).toEqual([]);
    expect(words.filter((text) => text.includes(btoa("a-word:of-its-own")))).toEqual([]);
  });

  test("is not believed when it says ?ns= or another spelling", async () => {
    const { machine, registry, prefix } = await start();
    const statusOf = async (path: string) =>
      (await fetch(`${machine.url}${path}`, { headers: { accept: types } })).status;
    const ns = encodeURIComponent(registry.host);

    expect(await statusOf(`/v2/team/tool/manifests/1?ns=${ns}`)).toBe(200);
    expect(await statusOf(`/v2/team/other/manifests/1?ns=${ns}`)).toBe(403);
    expect(await statusOf(`${prefix}/team/other/manifests/1?ns=${ns}`)).not.toBe(200);
    expect(await statusOf(`${prefix}/team%2fother/manifests/1`)).not.toBe(200);
  });

  test("goes on with a pull after FireRunner was started anew", async () => {
    const { bench, machine, get } = await start();
    await get("team/tool/manifests/1");
    await bench.restart([machine]);

    for (const part of [...blobsOf(own), ...documentsOf(own)])
      expect([part, (await get(`team/tool/${part}`)).status]).toEqual([part, 200]);
    expect((await get(`team/tool/blobs/${other.config.digest}`)).status).toBe(403);
  });

  test("gets none from a private address that the operator has not named", async () => {
    const world = await start({ named: undefined, egress: "internet" });

    const { status, body } = await world.get("team/tool/manifests/1");

    expect([status, body.toString()]).toEqual([403, expect.stringContaining("containers.registries")]);
    expect(seenOf(world)).toEqual([]);
  });
});

describe("a private image", () => {
  test("is pulled with the job's own login, and by nobody else", async () => {
    const [mine, nobodys, wrong] = [
      await start({ login, auth: btoa("me:right") }),
      await start({ login }),
      await start({ login, auth: btoa("me:wrong") }),
    ];
    const statuses = async ({ get }: World) =>
      await Promise.all(
        ["manifests/1", ...partsOf(own)].map(async (part) => (await get(`team/tool/${part}`)).status),
      );

    expect(await statuses(mine)).toEqual([200, 200, 200, 200, 200]);
    expect((await statuses(nobodys))[0]).toBe(401);
    expect((await statuses(wrong))[0]).toBe(403);
    // Without its documents nothing is known of its parts.
    for (const world of [nobodys, wrong]) expect(new Set(await statuses(world))).not.toContain(200);
  });

  test("is pulled with FireRunner's login only where the operator has named that very image", async () => {
    const pulled = [{ image: "team/tool:2", isTrusted: true }, { image: "team/tool:1" }];
    const { get } = await start({ login, named: operators, pulled });

    expect((await get("team/tool/manifests/2")).status).toBe(200);
    for (const blob of blobsOf(other)) expect((await get(`team/tool/${blob}`)).status).toBe(200);
    expect((await get("team/tool/manifests/1")).status).toBe(401);
    for (const part of partsOf(own)) expect((await get(`team/tool/${part}`)).status).not.toBe(200);
  });
});

test("a machine of which nothing is known any more gets what its pool's egress opens, and that alone", async () => {
  const pulled = "unknown";
  const [closed, opened] = [await start({ pulled }), await start({ pulled, egress: (host) => [host] })];

  expect((await closed.get("team/tool/manifests/1")).status).toBe(403);
  expect((await opened.get("team/tool/manifests/1")).status).toBe(200);
});

test("how images are to be got is told to a machine that pulls them", async () => {
  const pulledImages = async () => [{ name: "docker.io/library/node:24", isTrusted: false }];
  const policyOf = async (relay: object) => {
    const bench = await createRelayBench({ relay: { inContainers: async () => true, ...relay } });
    open.push({ [Symbol.asyncDispose]: () => bench.close() });
    const machine = await bench.machine({ image: { name: "node:24", pullPolicy: ["if-not-present"] } });
    return (await machine.handOver())["image"];
  };

  expect(await policyOf({ pulledImages })).toMatchObject({ pull_policy: ["if-not-present"] });
  expect(await policyOf({})).not.toHaveProperty("pull_policy");
});
