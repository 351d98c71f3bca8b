import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { imageOf } from "../../test/builders/layer.ts";
import { aJobImagesFixture, layer, password, prepare, simple } from "../../test/harness/job-images.ts";
import { startImageRegistry } from "../../test/servers/image-registry.ts";
import { MIB_BYTES } from "../base/units.ts";

const fixture = aJobImagesFixture();
const { open, sleeps, start } = fixture;

afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
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
