import { expect, test } from "vitest";
import { makeCertificateAuthority } from "../../../test/servers/certificates.ts";
import { startHttpServer } from "../../../test/servers/http-server.ts";
import { systemClock } from "../../base/clock.ts";
import { directRoutes } from "../../base/proxy/routes.ts";
import { parseImageName } from "../reference.ts";
import { createRepository } from "./repository.ts";
import { createWays } from "./ways.ts";

const digest = `sha256:${"0".repeat(64)}`;

test.each([
  "http://127.0.0.1",
  "https://169.254.169.254",
  "https://10.0.0.1:8443",
  "https://[fd00::1]",
  "http://[::ffff:127.0.0.1]",
])("a registry of a job's choice leads nobody to %s", async (origin) => {
  const ways = createWays({ registries: new Map(), proxies: directRoutes });
  const transport = ways.to(parseImageName("registry.example.org/a"), false);

  const asking = transport.request({ origin, method: "GET", path: "/latest/meta-data" });

  await expect(asking).rejects.toMatchObject({ code: "container_forbidden_address" });
  await ways.close();
});

test("a registry with TLS leads nobody to where there is none", async () => {
  await using authority = await makeCertificateAuthority();
  await using plain = await startHttpServer((_, response) => response.end("a blob"));
  await using registry = await startHttpServer(
    (_, response) => response.writeHead(307, { location: `${plain.url}/blob` }).end(),
    await authority.issue("127.0.0.1"),
  );
  const host = `127.0.0.1:${registry.port}`;
  const named = new Map([[host, { ca: authority.ca, plaintext: false }]]);
  const ways = createWays({ registries: named, proxies: directRoutes });
  const reference = parseImageName(`${host}/team/tool`);
  const repository = createRepository({
    ...{ transport: ways.to(reference, false), reference, credentials: undefined, clock: systemClock },
    untilMs: 0,
    signal: AbortSignal.timeout(20_000),
  });

  await expect(repository.openBlob(digest, 0)).rejects.toMatchObject({ code: "registry_refused" });

  expect([registry.seen.length, plain.seen.length]).toEqual([1, 0]);
  await repository.close();
  await ways.close();
});

test("a mirror is asked in the registry's place, and a registry without TLS by HTTP", () => {
  const registries = new Map([
    ["docker.io", { mirror: "mirror.example.org:5000", plaintext: false }],
    ["plain.example.org", { plaintext: true }],
  ]);
  const ways = createWays({ registries, proxies: directRoutes });
  const origins = ["node", "plain.example.org/a", "other.example.org/a", "localhost:5000/a"].map(
    (name) => ways.to(parseImageName(name), true).origin,
  );

  expect(origins).toEqual([
    "https://mirror.example.org:5000",
    "http://plain.example.org",
    "https://other.example.org",
    "http://localhost:5000",
  ]);
});
