import { createHash, randomBytes } from "node:crypto";
import { readdir } from "node:fs/promises";
import { type IncomingHttpHeaders, request } from "node:http";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { directRoutes } from "../../src/base/proxy/routes.ts";
import { Secret } from "../../src/base/secret.ts";
import { MIB_BYTES } from "../../src/base/units.ts";
import type { NamedRegistry } from "../../src/containers/config.ts";
import { type JobImages, openJobImages } from "../../src/containers/job-images.ts";
import { imageOf, tarOf } from "../builders/layer.ts";
import { type PoolOverrides, usualContainers } from "../builders/pool.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import { eventually } from "../harness/eventually.ts";
import { type ImageRegistry, startImageRegistry } from "../servers/image-registry.ts";
import { type BenchMachine, createRelayBench, type RelayBench } from "./relay-bench.ts";

/** Real relay, real cache and a strict registry on loopback; the tests play the clients inside a machine. */
const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each[Symbol.asyncDispose]();
});

const simple = imageOf([
  tarOf([{ path: "a", content: randomBytes(1_000_000) }]),
  tarOf([{ path: "b", content: "b" }]),
]);
const isKept = ({ keeper }: JobImages, wanted: string) =>
  keeper.blobs().some(({ digest }) => digest === wanted);
const [layer = { digest: "", blob: Buffer.alloc(0) }] = simple.layers;

/** Pauses take no time. */
const hurried = () => {
  let slept = 0;
  return {
    now: () => systemClock.now() + slept,
    sleep: async (ms: number) => {
      slept += ms;
    },
  };
};

interface Setup {
  readonly login?: { readonly username: string; readonly password: string };
  readonly named?: Partial<NamedRegistry>;
  readonly sizeBytes?: number;
  /** Without TLS, too, and in the pool's list. */
  readonly others?: readonly ImageRegistry[];
  /** What depends on the registry's `HOST:PORT`. Without egress the pool's list has that registry. */
  readonly of?: (host: string) => {
    readonly pool?: PoolOverrides;
    readonly variables?: Record<string, string>;
  };
}

interface World {
  readonly registry: ImageRegistry;
  readonly images: JobImages;
  readonly bench: RelayBench;
  readonly machine: BenchMachine;
  readonly directory: string;
  /** As podman's mirrors have it. */
  readonly prefix: string;
}

async function start(setup: Setup = {}): Promise<World> {
  const { login, named = {}, sizeBytes = 1_000 * MIB_BYTES, others = [] } = setup;
  const directory = await temporaryDirectory();
  const registry = await startImageRegistry(login ? { login } : {});
  open.push(directory, registry);
  registry.put("team/tool", "1", simple);
  const images = await openJobImages({
    ...{ directory: directory.path, sizeBytes, minFreeBytes: 0, proxies: directRoutes, clock: hurried() },
    registries: new Map([
      [registry.host, { plaintext: true, ...named }] as [string, NamedRegistry],
      ...others.map(({ host }): [string, NamedRegistry] => [host, { plaintext: true }]),
    ]),
  });
  open.push({ [Symbol.asyncDispose]: () => images.close() });
  const { pool = {}, variables = {} } = setup.of?.(registry.host) ?? {};
  const bench = await createRelayBench({
    // An address that is written out is open.
    pool: { egress: [registry.host, ...others.map(({ host }) => host)], ...pool },
    relay: { mirror: images.mirror },
  });
  open.push({ [Symbol.asyncDispose]: () => bench.close() });
  const machine = await bench.machine({ variables });
  await machine.handOver();
  const prefix = registry.host.replace(":", "__");
  return { registry, images, bench, machine, directory: directory.path, prefix };
}

interface Asked {
  readonly method?: string;
  readonly headers?: Record<string, string>;
}

interface Answered {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly isCut: boolean;
}

const types =
  "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json";

function ask(
  { socketPath }: BenchMachine,
  path: string,
  { method = "GET", headers = {} }: Asked = {},
): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const given = { accept: types, ...headers };
    const sent = request({ socketPath, path, method, headers: given, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", () => {});
      response.on("close", () =>
        resolve({
          ...{ status: response.statusCode ?? 0, headers: response.headers },
          ...{ body: Buffer.concat(chunks), isCut: !response.complete },
        }),
      );
    });
    sent.on("error", reject);
    sent.end();
  });
}

const basic = (username: string, password: string) => ({
  authorization: `Basic ${btoa(`${username}:${password}`)}`,
});
const blobsOf = (registry: ImageRegistry) =>
  registry.asked().filter((line) => line === `GET blobs/${layer.digest}`).length;

describe("a pull through the mirror", () => {
  test("gives what the registry has, keeps it, and fetches it once", async () => {
    const { registry, machine, prefix, images } = await start();
    const base = `/v2/${prefix}/team/tool`;

    for (const _ of [1, 2]) {
      const head = await ask(machine, `${base}/manifests/1`, { method: "HEAD" });
      const manifest = await ask(machine, `${base}/manifests/1`);
      const byDigest = await ask(machine, `${base}/manifests/${simple.manifest.digest}`);
      const config = await ask(machine, `${base}/blobs/${simple.config.digest}`);
      const blobHead = await ask(machine, `${base}/blobs/${layer.digest}`, { method: "HEAD" });
      const blob = await ask(machine, `${base}/blobs/${layer.digest}`);

      expect([head.status, head.body.length]).toEqual([200, 0]);
      expect(manifest.headers).toMatchObject({
        "docker-content-digest": simple.manifest.digest,
        "content-length": String(simple.manifest.body.length),
        "content-type": "application/vnd.oci.image.manifest.v1+json",
      });
      expect(manifest.body.equals(simple.manifest.body)).toBe(true);
      expect(byDigest.body.equals(simple.manifest.body)).toBe(true);
      expect(config.body.equals(simple.config.body)).toBe(true);
      expect(blobHead.headers["content-length"]).toBe(String(layer.blob.length));
      expect(blob.body.equals(layer.blob)).toBe(true);
    }
    // What came is there, and asked for with one HEAD each time.
    expect(blobsOf(registry)).toBe(1);
    expect(registry.asked().filter((line) => line === "GET manifests/1")).toEqual([]);
    for (const { digest } of [simple.manifest, simple.config, layer])
      await eventually("it is kept", () => isKept(images, digest));
    // A job that names the image has its layer already.
    const wants = [{ name: `${registry.host}/team/tool:1`, policy: "always", isTrusted: true } as const];
    const [prepared] = await images.prepare(wants, { signal: AbortSignal.timeout(60_000) });
    expect(prepared?.fetchedBytes).toBe(simple.layers[1]?.blob.length);
  });

  test("means the registry that ?ns= says, as containerd asks", async () => {
    const { registry, machine } = await start();

    const answer = await ask(machine, `/v2/team/tool/manifests/1?ns=${encodeURIComponent(registry.host)}`);

    expect(answer.headers["docker-content-digest"]).toBe(simple.manifest.digest);
  });

  test("streams while it comes, once to all who ask, from wherever they ask", async () => {
    const { registry, machine, prefix } = await start();
    const path = `/v2/${prefix}/team/tool/blobs/${layer.digest}`;
    const half = layer.blob.length >> 1;
    const rest = Promise.withResolvers<void>();
    registry.fault = ({ method, path: asked }, response) => {
      if (method !== "GET" || !asked.endsWith(layer.digest)) return undefined;
      response.writeHead(200, { "content-length": layer.blob.length });
      response.write(layer.blob.subarray(0, half));
      void rest.promise.then(() => response.end(layer.blob.subarray(half)));
      return "answered";
    };
    const early = Promise.withResolvers<Buffer>();
    const first = request({ socketPath: machine.socketPath, path, agent: false }, (response) => {
      response.once("data", (chunk: Buffer) => early.resolve(chunk));
      response.on("error", () => {});
    }).on("error", () => {});
    first.end();

    // The first bytes are out though the registry has not sent the last ones.
    const beginning = await early.promise;
    expect(beginning.equals(layer.blob.subarray(0, beginning.length))).toBe(true);
    const others = [ask(machine, path), ask(machine, path, { headers: { range: "bytes=7-" } })];
    await eventually(
      "both have asked",
      () => registry.asked().filter((line) => line === `HEAD blobs/${layer.digest}`).length === 3,
    );
    rest.resolve();
    const [whole, part] = await Promise.all(others);

    expect(whole?.body.equals(layer.blob)).toBe(true);
    expect([part?.status, part?.headers["content-range"]]).toEqual([
      206,
      `bytes 7-${layer.blob.length - 1}/${layer.blob.length}`,
    ]);
    expect(part?.body.equals(layer.blob.subarray(7))).toBe(true);
    expect(blobsOf(registry)).toBe(1);
    first.destroy();
  });

  test("goes on for the others when the one who began it leaves", async () => {
    const { registry, machine, prefix } = await start();
    const path = `/v2/${prefix}/team/tool/blobs/${layer.digest}`;
    let isHeld = true;
    registry.fault = ({ method, path: asked }, response) => {
      if (!isHeld || method !== "GET" || !asked.endsWith(layer.digest)) return undefined;
      isHeld = false;
      response.writeHead(200, { "content-length": layer.blob.length });
      response.write(layer.blob.subarray(0, 100));
      return "answered";
    };
    const begun = Promise.withResolvers<void>();
    const first = request({ socketPath: machine.socketPath, path, agent: false }, (response) => {
      response.once("data", () => begun.resolve()).on("error", () => {});
    }).on("error", () => {});
    first.end();
    await begun.promise;
    const second = ask(machine, path);
    await eventually(
      "the second has asked",
      () => registry.asked().filter((line) => line === `HEAD blobs/${layer.digest}`).length === 2,
    );

    first.destroy();

    expect((await second).body.equals(layer.blob)).toBe(true);
  });

  /** Where the registry keeps its blobs. */
  async function startStorage() {
    const storage = await startImageRegistry();
    open.push(storage);
    storage.put("team/tool", "1", simple);
    return storage;
  }
  function keepElsewhere(registry: ImageRegistry, storage: ImageRegistry): void {
    registry.fault = ({ path }, response) => {
      if (!path.includes("/blobs/")) return undefined;
      response.writeHead(307, { location: `http://${storage.host}${path}` }).end();
      return "answered";
    };
  }

  test("of a blob that lies elsewhere learns its length there, and takes no login along", async () => {
    const login = { username: "me", password: "right" };
    const storage = await startStorage();
    const { registry, machine, prefix } = await start({ login, others: [storage] });
    keepElsewhere(registry, storage);
    const path = `/v2/${prefix}/team/tool/blobs/${layer.digest}`;

    const blob = await ask(machine, path, { headers: basic("me", "right") });

    expect(blob.body.equals(layer.blob)).toBe(true);
    expect(blob.headers["content-length"]).toBe(String(layer.blob.length));
    expect(storage.server.seen.filter(({ headers }) => headers.authorization)).toEqual([]);
  });

  test("is not led to private addresses that its pool does not open", async () => {
    const storage = await startStorage();
    const { registry, machine, prefix } = await start();
    keepElsewhere(registry, storage);

    const { status, body } = await ask(machine, `/v2/${prefix}/team/tool/blobs/${layer.digest}`);

    expect([status, body.toString()]).toEqual([403, expect.stringContaining("must not be reached")]);
    expect(storage.server.seen).toEqual([]);
  });

  test("past a cache that has no room is whole", async () => {
    const { machine, prefix, images } = await start({ sizeBytes: 1_000 });

    const blob = await ask(machine, `/v2/${prefix}/team/tool/blobs/${layer.digest}`);
    const part = await ask(machine, `/v2/${prefix}/team/tool/blobs/${layer.digest}`, {
      headers: { range: "bytes=10-" },
    });

    expect(blob.body.equals(layer.blob)).toBe(true);
    expect(part.body.equals(layer.blob.subarray(10))).toBe(true);
    expect(images.keeper.blobs()).toEqual([]);
  });
});

test("a machine brings no more than its share into the cache; the rest streams past it", async () => {
  const { machine, prefix, images } = await start({ sizeBytes: 3 * layer.blob.length });

  const blob = await ask(machine, `/v2/${prefix}/team/tool/blobs/${layer.digest}`);
  const small = await ask(machine, `/v2/${prefix}/team/tool/blobs/${simple.layers[1]?.digest}`);

  expect([blob.body.equals(layer.blob), small.status]).toEqual([true, 200]);
  await eventually("the small one is kept", () => isKept(images, simple.layers[1]?.digest ?? ""));
  expect(isKept(images, layer.digest)).toBe(false);
});

describe("what a job may not read", () => {
  const login = { username: "me", password: "right" };

  test("is not given though it lies here; with the right login it is", async () => {
    const { machine, prefix } = await start({ login });
    const base = `/v2/${prefix}/team/tool`;
    const paths = [
      `${base}/manifests/1`,
      `${base}/manifests/${simple.manifest.digest}`,
      `${base}/blobs/${layer.digest}`,
    ];
    const statuses = async (headers: Record<string, string>, method = "GET") =>
      await Promise.all(paths.map(async (path) => (await ask(machine, path, { headers, method })).status));

    expect(await statuses({})).toEqual([401, 401, 401]);
    expect(await statuses(basic("me", "right"))).toEqual([200, 200, 200]);
    for (const method of ["GET", "HEAD"]) {
      expect(await statuses({}, method)).toEqual([401, 401, 401]);
      expect(await statuses(basic("me", "wrong"), method)).toEqual([403, 403, 403]);
    }
  });

  test("is given with a token, as clients log in", async () => {
    const { machine, prefix } = await start({ login });
    const path = `/v2/${prefix}/team/tool/manifests/1`;
    const check = await ask(machine, "/v2/", { headers: { host: "10.0.2.100:80" } });
    const tokenFor = async (headers: Record<string, string>) => {
      const { body } = await ask(machine, "/firerunner/registry-token?service=firerunner&scope=x", {
        headers,
      });
      return { authorization: `Bearer ${(JSON.parse(body.toString()) as { token: string }).token}` };
    };

    expect([check.status, check.headers["www-authenticate"]]).toEqual([
      401,
      'Bearer realm="http://10.0.2.100:80/firerunner/registry-token",service="firerunner"',
    ]);
    for (const [who, status] of [
      [basic("me", "right"), 200],
      [basic("me", "wrong"), 403],
      [{}, 401],
    ] as const) {
      const token = await tokenFor(who);
      expect((await ask(machine, "/v2/", { headers: token })).status).toBe(200);
      expect((await ask(machine, path, { headers: token })).status).toBe(status);
    }
    const foreign = await ask(machine, path, { headers: { authorization: "Bearer foreign.token" } });
    expect([foreign.status, foreign.headers["www-authenticate"]]).toEqual([
      401,
      expect.stringContaining("registry-token"),
    ]);
  });

  test("is given with the job's own login or its pool's, and with FireRunner's only where the pool allows that image", async () => {
    const auth = btoa("me:right");
    const own = await start({
      login,
      of: (host) => ({ variables: { DOCKER_AUTH_CONFIG: JSON.stringify({ auths: { [host]: { auth } } }) } }),
    });
    const ofPool = await start({
      login,
      of: (host) => ({
        pool: {
          runnerSettings: {
            environment: [`DOCKER_AUTH_CONFIG=${JSON.stringify({ auths: { [host]: { auth } } })}`],
          },
        },
      }),
    });
    const operators = {
      login: { kind: "password", username: "me", password: new Secret("right") },
    } as const;
    const allowing = (allow: (host: string) => string) => (host: string) => ({
      pool: { containers: { ...usualContainers, allow: [allow(host)] } },
    });
    const closed = await start({ login, named: operators, of: allowing((host) => `${host}/other/*`) });
    const opened = await start({ login, named: operators, of: allowing((host) => `${host}/team/*`) });
    const pull = async ({ machine, prefix }: World, headers = {}) =>
      (await ask(machine, `/v2/${prefix}/team/tool/manifests/1`, { headers })).status;

    expect([await pull(own), await pull(ofPool)]).toEqual([200, 200]);
    expect([await pull(closed), await pull(opened)]).toEqual([401, 200]);
    // What the client sends counts before both.
    expect(await pull(own, basic("me", "wrong"))).toBe(403);
  });

  test("is not given because another registry says that it has it, too", async () => {
    const liar = await startImageRegistry();
    open.push(liar);
    const { machine, prefix, images } = await start({ login, others: [liar] });
    liar.fault = ({ method, path }, response) => {
      const digest = /sha256:[0-9a-f]{64}$/.exec(path)?.[0] ?? simple.manifest.digest;
      const headers = { "docker-content-digest": digest, "content-length": layer.blob.length };
      response.writeHead(method === "HEAD" ? 200 : 404, method === "HEAD" ? headers : {}).end();
      return "answered";
    };
    const pull = async (host: string, what: string) => {
      const path = `/v2/${host.replace(":", "__")}/team/tool/${what}`;
      return (await ask(machine, path, { headers: basic("me", "right") })).status;
    };
    const all = ["manifests/1", `manifests/${simple.manifest.digest}`, `blobs/${layer.digest}`];
    for (const what of all) expect(await pull(prefix, what)).toBe(200);
    await eventually("it is kept", () => isKept(images, layer.digest));

    for (const what of all) expect([what, await pull(liar.host, what)]).toEqual([what, 404]);
    expect(liar.asked().filter((line) => line.startsWith("GET"))).toHaveLength(3);
  });
});

describe("a pool's egress", () => {
  test.each([
    ["none", "none"],
    ["a list without the registry", ["registry.example.org:443"]],
    ["internet, for a private address", "internet"],
  ] as const)("that is %s closes the mirror, also to what lies here", async (_, egress) => {
    const { machine, prefix, registry, images, bench } = await start({ of: () => ({ pool: { egress } }) });
    const wants = [{ name: `${registry.host}/team/tool:1`, policy: "always", isTrusted: true } as const];
    await images.prepare(wants, { signal: AbortSignal.timeout(60_000) });
    const before = registry.server.seen.length;

    for (const what of ["manifests/1", `blobs/${layer.digest}`]) {
      const { status, body } = await ask(machine, `/v2/${prefix}/team/tool/${what}`);
      const told = JSON.parse(body.toString()) as { errors: { code: string; message: string }[] };
      expect([status, told.errors[0]?.code]).toEqual([403, "DENIED"]);
      expect(told.errors[0]?.message).toContain("127.0.0.1");
    }
    expect(registry.server.seen.length).toBe(before);
    const events = await bench.store.events({ machineId: machine.id });
    expect(events.some(({ kind }) => kind === "egress:refused")).toBe(true);
  });
});

describe("a client that", () => {
  test("pushes, lists or makes names up is told so", async () => {
    const { machine, prefix } = await start();
    const statusOf = async (method: string, path: string) => (await ask(machine, path, { method })).status;

    expect(await statusOf("POST", `/v2/${prefix}/team/tool/blobs/uploads/`)).toBe(405);
    expect(await statusOf("PUT", `/v2/${prefix}/team/tool/manifests/1`)).toBe(405);
    expect(await statusOf("DELETE", `/v2/${prefix}/team/tool/manifests/1`)).toBe(405);
    for (const path of [
      "/v2/_catalog",
      `/v2/${prefix}/team/tool/tags/list`,
      `/v2/${prefix}/../secret/manifests/1`,
      `/v2/${prefix}/team//tool/manifests/1`,
      `/v2/${prefix}/team/tool/blobs/sha512:${"0".repeat(128)}`,
      `/v2/${"a".repeat(600)}/manifests/1`,
    ])
      expect([path, await statusOf("GET", path)]).toEqual([path, 404]);
    expect(await statusOf("GET", "/v2/team/tool/manifests/1?ns=..%2f..%2fetc")).toBe(400);
    expect(await statusOf("GET", `/v2/${prefix}/team/tool/manifests/none`)).toBe(404);
  });
});

describe("a registry that", () => {
  test.each([
    ["is down", 503, 503, {}],
    ["asks for patience", 429, 503, { "retry-after": "60" }],
    ["forbids it", 403, 401, {}],
  ] as const)("%s is told of", async (_, status, told, headers) => {
    const { machine, prefix, registry } = await start();
    registry.fault = (_request, response) => {
      response.writeHead(status, headers).end();
      return "answered";
    };

    const answer = await ask(machine, `/v2/${prefix}/team/tool/manifests/1`);

    expect(answer.status).toBe(told);
  });

  test("gives other bytes is not believed, and nothing is kept", async () => {
    const { machine, prefix, registry, directory } = await start();
    registry.content.set(layer.digest, Buffer.from(layer.blob).reverse());

    const blob = await ask(machine, `/v2/${prefix}/team/tool/blobs/${layer.digest}`);

    expect(createHash("sha256").update(blob.body).digest("hex")).not.toBe(layer.digest.slice(7));
    await eventually("nothing is kept", async () => (await readdir(join(directory, "blobs"))).length === 0);
  });

  test("breaks off for good breaks off the answer", async () => {
    const { machine, prefix, registry } = await start();
    registry.fault = ({ method, path }, response) => {
      if (method === "HEAD" || !path.includes("/blobs/")) return undefined;
      response.writeHead(200, { "content-length": layer.blob.length });
      response.write(layer.blob.subarray(0, 1_000), () => response.destroy());
      return "answered";
    };

    // Perhaps before its head is out.
    const hungUp = () => ({ isCut: true });
    const path = `/v2/${prefix}/team/tool/blobs/${layer.digest}`;
    const { isCut } = await ask(machine, path).catch(hungUp);

    expect(isCut).toBe(true);
  });
});
