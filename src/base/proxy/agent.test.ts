import type { Dispatcher } from "undici";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type CertificateAuthority, makeCertificateAuthority } from "../../../test/servers/certificates.ts";
import { type CompanyProxyOptions, startCompanyProxy } from "../../../test/servers/company-proxy.ts";
import { answer, startHttpServer } from "../../../test/servers/http-server.ts";
import { describeError } from "../errors.ts";
import { Secret } from "../secret.ts";
import { trustContext } from "../tls.ts";
import { createProxiedAgent } from "./agent.ts";
import { type ProxyError, proxyErrorIn } from "./errors.ts";
import type { ProxyRoutes } from "./routes.ts";

const PASSWORD = "swordfish-of-the-proxy";
let authority: CertificateAuthority;
const open: AsyncDisposable[] = [];

beforeAll(async () => {
  authority = await makeCertificateAuthority();
});
afterEach(async () => {
  for (const each of open.splice(0).toReversed()) await each[Symbol.asyncDispose]();
});
afterAll(() => authority[Symbol.asyncDispose]());

interface Wanted {
  readonly scheme: "http" | "https";
  readonly proxy?: Partial<CompanyProxyOptions>;
  readonly proxies?: Partial<ProxyRoutes>;
  readonly password?: string;
  readonly trusted?: boolean;
}

/** A server `gitlab.company.test` that only the proxy knows, the proxy, and an agent that goes through it. */
async function company({ scheme, proxy: rules, proxies, password, trusted = true }: Wanted) {
  const tls = scheme === "https" ? await authority.issue("gitlab.company.test") : undefined;
  const server = await startHttpServer(
    (request, response) => answer(response, 200, `hello ${request.path}`),
    tls,
  );
  const origin = `${scheme}://gitlab.company.test:${server.port}`;
  const routes = { [`gitlab.company.test:${server.port}`]: server.port };
  const proxy = await startCompanyProxy({ user: "me", password: PASSWORD, routes, ...rules });
  const named = {
    origin: proxy.url,
    namedBy: "proxy.url",
    username: "me",
    password: new Secret(password ?? PASSWORD),
  };
  const context = trustContext(trusted ? [authority.ca] : []);
  const agent = createProxiedAgent({
    proxies: { http: named, https: named, except: [], ca: undefined, ...proxies },
    connectTimeoutMs: 5_000,
    secureContext: () => context,
  });
  open.push(server, proxy, { [Symbol.asyncDispose]: () => agent.destroy() });
  const get = async () =>
    await text(agent.request({ origin, method: "GET", path: "/a?b", headers: { "X-Mine": "1" } }));
  return { server, proxy, agent, origin, get };
}

async function text(asking: Promise<Dispatcher.ResponseData>): Promise<string> {
  const { statusCode, body } = await asking;
  return `${statusCode} ${await body.text()}`;
}

async function failure(asking: Promise<unknown>): Promise<ProxyError> {
  const error = await asking.then(
    () => expect.fail("it worked"),
    (reason: unknown) => reason,
  );
  const found = proxyErrorIn(error);
  if (found === undefined) throw new Error(`not a ProxyError: ${describeError(error)}`);
  expect(`${describeError(error)} ${JSON.stringify(error)} ${found.hint}`).not.toContain(PASSWORD);
  return found;
}

describe("through a company's proxy", () => {
  test("https goes by CONNECT, and the server sees nothing of the proxy", async () => {
    const { proxy, server, get } = await company({ scheme: "https" });

    expect(await get()).toBe("200 hello /a?b");
    expect(await get()).toBe("200 hello /a?b");

    expect(new Set(proxy.asked)).toEqual(new Set([`CONNECT gitlab.company.test:${server.port}`]));
    expect(JSON.stringify(server.seen)).not.toContain("proxy");
  });

  test("http asks the proxy for the whole address, with the server's own name", async () => {
    const { proxy, server, get, origin } = await company({ scheme: "http" });

    expect(await get()).toBe("200 hello /a?b");

    expect(proxy.asked).toEqual([`GET ${origin}/a?b`]);
    expect(server.seen[0]?.headers).toMatchObject({
      host: `gitlab.company.test:${server.port}`,
      "x-mine": "1",
    });
    expect(server.seen[0]?.headers).not.toHaveProperty("proxy-authorization");
  });

  test.each(["http", "https"] as const)("to %s through a proxy that speaks TLS itself", async (scheme) => {
    const { get } = await company({ scheme, proxy: { tls: await authority.issue("127.0.0.1") } });

    expect(await get()).toBe("200 hello /a?b");
  });

  test("streams a large body and its answer", async () => {
    const { agent, origin, server } = await company({ scheme: "https" });
    const body = Buffer.alloc(3_000_000, "x");

    expect(await text(agent.request({ origin, method: "POST", path: "/up", body }))).toBe("200 hello /up");
    expect(server.seen[0]?.body).toHaveLength(body.length);
  });

  test("goes directly where the list of exceptions says so", async () => {
    const { proxy, get } = await company({ scheme: "http", proxies: { except: ["company.test"] } });

    await expect(get()).rejects.toThrow("gitlab.company.test");
    expect(proxy.asked).toEqual([]);
  });
});

describe("what goes wrong at the proxy is told as such", () => {
  test.each(["http", "https"] as const)("a wrong password for %s", async (scheme) => {
    const { get, proxy } = await company({ scheme, password: "wrong" });

    expect(await failure(get())).toMatchObject({
      code: "proxy_authentication",
      hint: expect.stringContaining("proxy.passwordFile"),
    });
    expect(proxy.unproven()).toBe(1);
  });

  test("a user that nobody gave", async () => {
    const { proxy, server, origin } = await company({ scheme: "https" });
    const named = { origin: proxy.url, namedBy: "HTTPS_PROXY" };
    const agent = createProxiedAgent({
      proxies: { http: named, https: named, except: [], ca: undefined },
      connectTimeoutMs: 5_000,
      secureContext: () => trustContext([]),
    });
    open.push({ [Symbol.asyncDispose]: () => agent.destroy() });

    expect((await failure(agent.request({ origin, method: "GET", path: "/" }))).message).toContain(
      "asks for a user",
    );
    expect(server.seen).toEqual([]);
  });

  test.each([
    [403, false, "rules allow"],
    [502, true, "proxy.noProxy"],
  ])("an answer of %i to CONNECT", async (refusal, retryable, hint) => {
    const { get } = await company({ scheme: "https", proxy: { refusal } });

    expect(await failure(get())).toMatchObject({
      code: "proxy_refused",
      hint: expect.stringContaining(hint),
      retryable,
    });
  });

  test.each(["http", "https"] as const)(
    "a certificate of the proxy's that is not trusted, on the way to %s",
    async (scheme) => {
      const { get } = await company({
        scheme,
        trusted: false,
        proxy: { tls: await authority.issue("127.0.0.1") },
      });

      expect(await failure(get())).toMatchObject({
        code: "proxy_certificate",
        hint: expect.stringContaining("proxy.caFile"),
      });
    },
  );

  test.each(["http", "https"] as const)("a proxy that is not there, on the way to %s", async (scheme) => {
    const { get, proxy } = await company({ scheme });
    await proxy[Symbol.asyncDispose]();

    expect(await failure(get())).toMatchObject({ code: "proxy_unreachable", retryable: true });
  });
});
