import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type CertificateAuthority, makeCertificateAuthority } from "../../../test/servers/certificates.ts";
import { startCompanyProxy } from "../../../test/servers/company-proxy.ts";
import { answer, startHttpServer } from "../../../test/servers/http-server.ts";
import { systemClock } from "../../base/clock.ts";
import { directRoutes } from "../../base/proxy/routes.ts";
import { Secret } from "../../base/secret.ts";
import { spansUrl } from "./config.ts";
import { createSender } from "./sender.ts";

let authority: CertificateAuthority;
const open: AsyncDisposable[] = [];

beforeAll(async () => {
  authority = await makeCertificateAuthority();
});
afterEach(async () => {
  for (const each of open.splice(0).toReversed()) await each[Symbol.asyncDispose]();
});
afterAll(() => authority[Symbol.asyncDispose]());

const signal = new AbortController().signal;
const taken = { kind: "taken", rejected: 0, note: "" };

async function collectorWith(tls?: { key: string; cert: string }) {
  const server = await startHttpServer((_request, response) => answer(response, 200, {}), tls);
  open.push(server);
  return server;
}

function senderTo(
  endpoint: string,
  { ca, proxies = directRoutes }: { ca?: string; proxies?: typeof directRoutes } = {},
) {
  const access = { headers: [], ca };
  const sender = createSender({ endpoint, timeoutMs: 20_000, access, proxies }, systemClock);
  open.push({ [Symbol.asyncDispose]: () => sender.close() });
  return sender;
}

test.each([
  ["http://c:4318", "http://c:4318/v1/traces"],
  ["http://c:4318/", "http://c:4318/v1/traces"],
  ["https://c/otlp/v1/traces", "https://c/otlp/v1/traces"],
  ["https://c/api?tenant=ci", "https://c/api?tenant=ci"],
])("the spans for %s go to %s", (endpoint, url) => {
  expect(spansUrl(endpoint).href).toBe(url);
});

describe("a collector that speaks TLS", () => {
  test("is believed with an authority of traces.caFile, and not without", async () => {
    const { port } = await collectorWith(await authority.issue("127.0.0.1"));

    expect(await senderTo(`https://127.0.0.1:${port}`, { ca: authority.ca }).send("{}", signal)).toEqual(
      taken,
    );
    expect(await senderTo(`https://127.0.0.1:${port}`).send("{}", signal)).toMatchObject({
      kind: "later",
      problem: expect.stringMatching(/certificate|verify/i),
    });
  });
});

describe("a collector behind the company's proxy", () => {
  test.each(["http", "https"] as const)("is reached by %s through it", async (scheme) => {
    const tls = scheme === "https" ? await authority.issue("collector.company.test") : undefined;
    const server = await collectorWith(tls);
    const routes = { [`collector.company.test:${server.port}`]: server.port };
    const proxy = await startCompanyProxy({ user: "me", password: "swordfish", routes });
    open.push(proxy);
    const named = {
      origin: proxy.url,
      namedBy: "proxy.url",
      username: "me",
      password: new Secret("swordfish"),
    };
    const proxies = { http: named, https: named, except: [], ca: undefined };

    const sender = senderTo(`${scheme}://collector.company.test:${server.port}`, {
      ca: authority.ca,
      proxies,
    });

    expect(await sender.send("{}", signal)).toEqual(taken);
    expect(proxy.asked).toHaveLength(1);
    expect(server.seen).toMatchObject([{ method: "POST", path: "/v1/traces", body: "{}" }]);
  });

  test("that refuses is named, and asked again", async () => {
    const proxy = await startCompanyProxy({ user: "me", password: "swordfish", routes: {} });
    open.push(proxy);
    const named = { origin: proxy.url, namedBy: "proxy.url" };
    const proxies = { http: named, https: named, except: [], ca: undefined };

    const outcome = await senderTo("https://collector.company.test", { proxies }).send("{}", signal);

    expect(outcome).toMatchObject({ kind: "later", problem: expect.stringContaining("the proxy") });
  });
});
