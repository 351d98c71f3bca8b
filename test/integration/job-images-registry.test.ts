import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { directRoutes } from "../../src/base/proxy/routes.ts";
import { Secret } from "../../src/base/secret.ts";
import { MIB_BYTES } from "../../src/base/units.ts";
import type { NamedRegistry } from "../../src/containers/config.ts";
import { openJobImages } from "../../src/containers/job-images.ts";
import { createRegistryClient } from "../../src/registry/client.ts";
import { createTransport } from "../../src/registry/session.ts";
import { imageOf, type TestImage, tarOf } from "../builders/layer.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import { makeCertificateAuthority } from "../servers/certificates.ts";
import { REGISTRY_PASSWORD, REGISTRY_USER, startDockerRegistry } from "../servers/docker-registry.ts";

const login = { kind: "password", username: REGISTRY_USER, password: new Secret(REGISTRY_PASSWORD) } as const;

test("Debian's registry, by TLS and with a login, gives images to who may read them", async () => {
  await using directory = await temporaryDirectory();
  await using authority = await makeCertificateAuthority();
  await using registry = await startDockerRegistry({ tls: await authority.issue("127.0.0.1"), login: true });
  const host = `127.0.0.1:${registry.port}`;
  const image = imageOf([tarOf([{ path: "a", content: "x".repeat(100_000) }])]);
  await push(host, authority.ca, image);
  const name = `${host}/team/tool:1`;
  const opened = (named: NamedRegistry) =>
    openJobImages({
      directory: directory.path,
      ...{ sizeBytes: 100 * MIB_BYTES, minFreeBytes: 0, proxies: directRoutes, clock: systemClock },
      registries: new Map([[host, named]]),
    });
  const prepare = async (named: NamedRegistry) => {
    const images = await opened(named);
    try {
      const given = { signal: AbortSignal.timeout(60_000), patienceMs: 0 };
      return await images.prepare([{ name, policy: "always", isTrusted: true }], given);
    } finally {
      await images.close();
    }
  };

  const [prepared] = await prepare({ ca: authority.ca, login, plaintext: false });
  const [again] = await prepare({ ca: authority.ca, login, plaintext: false });
  const wrong = { ...login, password: new Secret("wrong-word") };

  expect(prepared).toMatchObject({ digest: image.manifest.digest, isFromCache: false });
  expect(again).toMatchObject({ isFromCache: true });
  await expect(prepare({ ca: authority.ca, login: wrong, plaintext: false })).rejects.toMatchObject({
    code: "container_denied",
  });
  await expect(prepare({ ca: authority.ca, plaintext: false })).rejects.toMatchObject({
    code: "container_denied",
  });
  await expect(prepare({ login, plaintext: false })).rejects.toMatchObject({ code: "registry_tls" });
  await expect(prepare({ login, plaintext: true })).rejects.toMatchObject({
    code: expect.stringMatching(/^registry_/),
  });
});

async function push(host: string, ca: string, { manifest, config, layers }: TestImage): Promise<void> {
  const client = createRegistryClient({
    transport: createTransport({ registry: host, ca }),
    credentials: async () => login,
    clock: systemClock,
  });
  const blobs = [config.body, ...layers.map(({ blob }) => blob)];
  for (const bytes of blobs) {
    const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
    const read = (from: number, to: number) => Readable.from([bytes.subarray(from, to)]);
    await client.upload("team/tool", { digest, bytes: bytes.length, read }, () => {});
  }
  const mediaType = "application/vnd.oci.image.manifest.v1+json";
  await client.putManifest("team/tool", "1", { ...manifest, mediaType });
  await client.close();
}
