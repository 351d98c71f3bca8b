import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { makeCertificateAuthority } from "../../test/servers/certificates.ts";
import { startCompanyProxy } from "../../test/servers/company-proxy.ts";
import { startHttpServer } from "../../test/servers/http-server.ts";
import { directRoutes } from "../base/proxy/routes.ts";
import { registryAsker } from "./holding.ts";

const askRegistry = registryAsker({});

const signal = new AbortController().signal;
const digest = `sha256:${"a".repeat(64)}`;
const asked: string[] = [];
let server: Server | undefined;

afterEach(() => {
  server?.close();
  asked.length = 0;
});

/** A registry that answers each question with the status for its repository. */
async function aRegistry(statuses: Readonly<Record<string, number>>): Promise<string> {
  const registry = createServer(({ method, url = "" }, response) => {
    asked.push(`${method} ${url}`);
    const [, repository = ""] = /^\/v2\/(.*)\/manifests\//.exec(url) ?? [];
    response.writeHead(statuses[repository] ?? 404).end();
  });
  await new Promise<void>((resolve) => registry.listen(0, "127.0.0.1", resolve));
  server = registry;
  return `localhost:${(registry.address() as AddressInfo).port}`;
}

/** As hosts call it, whose own registry it may be. */
const published = { kernel: `localhost:5000/fr/kernel@${digest}`, root: `localhost:5000/fr/root@${digest}` };

test("has what hosts pull, by the name that this computer has for their registry", async () => {
  const registry = await aRegistry({ "fr/kernel": 200, "fr/root": 200 });

  expect(await askRegistry({ ...published, registry }, signal)).toMatchObject({ state: "there" });
  expect(asked.toSorted()).toEqual([
    `HEAD /v2/fr/kernel/manifests/${digest}`,
    `HEAD /v2/fr/root/manifests/${digest}`,
  ]);
});

test.each([
  [404, "gone", "does not have localhost:5000/fr/root"],
  [403, "locked", "without a login"],
  [500, "unknown", "answers 500"],
])("one that answers %i for one of the two is %s", async (status, state, words) => {
  const registry = await aRegistry({ "fr/kernel": 200, "fr/root": status });

  expect(await askRegistry({ ...published, registry }, signal)).toMatchObject({
    state,
    words: expect.stringContaining(words),
  });
});

test("one that cannot be asked says nothing of the image", async () => {
  expect(await askRegistry(published, signal)).toMatchObject({
    state: "unknown",
    words: expect.stringContaining("of the host's own"),
  });
  const registry = "127.0.0.1:1";
  expect(await askRegistry({ ...published, registry }, signal)).toMatchObject({ state: "unknown" });
});

describe("a registry that a push reached in a way of its own", () => {
  const host = "registry.company.test:5000";
  const far = { kernel: `${host}/fr/kernel@${digest}`, root: `${host}/fr/root@${digest}`, registry: host };

  /** One that has everything, behind a proxy. */
  async function behindProxy(tls?: { key: string; cert: string }) {
    const server = await startHttpServer((_request, response) => response.end(), tls);
    const proxy = await startCompanyProxy({ routes: { [host]: server.port } });
    const named = { origin: proxy.url, namedBy: "proxy.url" };
    const ask = registryAsker({ proxies: { ...directRoutes, http: named, https: named } });
    return {
      ...{ ask, proxy, server },
      async [Symbol.asyncDispose]() {
        await proxy[Symbol.asyncDispose]();
        await server[Symbol.asyncDispose]();
      },
    };
  }

  test("is asked through the proxy, with the authority that the push was given", async () => {
    await using authority = await makeCertificateAuthority();
    await using behind = await behindProxy(await authority.issue("registry.company.test"));

    expect(await behind.ask({ ...far, pushed: { ca: authority.ca } }, signal)).toMatchObject({
      state: "there",
    });
    expect(new Set(behind.proxy.asked)).toEqual(new Set([`CONNECT ${host}`]));
    expect(await behind.ask(far, signal)).toMatchObject({
      state: "unknown",
      words: expect.stringContaining("is not trusted"),
    });
  });

  test("is asked without TLS where the push was; a root of other people, elsewhere, is not", async () => {
    await using behind = await behindProxy();
    const plain = { ...far, pushed: { plainHttp: true } };

    expect(await behind.ask(plain, signal)).toMatchObject({ state: "there" });
    expect(behind.proxy.asked.toSorted()).toEqual([
      `HEAD http://${host}/v2/fr/kernel/manifests/${digest}`,
      `HEAD http://${host}/v2/fr/root/manifests/${digest}`,
    ]);
    expect(await behind.ask({ ...plain, cloudInit: true }, signal)).toMatchObject({ state: "unknown" });
  });

  test("is not asked with an authority that cannot be read, and the answer says so", async () => {
    expect(await askRegistry({ ...far, pushed: { ca: "nonsense" } }, signal)).toMatchObject({
      state: "unknown",
      words: expect.stringContaining("certificate"),
    });
  });
});
