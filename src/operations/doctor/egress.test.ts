import { afterEach, describe, expect, test } from "vitest";
import { type CompanyProxy, startCompanyProxy } from "../../../test/servers/company-proxy.ts";
import { startHttpServer, type TestServer } from "../../../test/servers/http-server.ts";
import { directRoutes, type ProxyRoutes } from "../../base/proxy/routes.ts";
import { Secret } from "../../base/secret.ts";
import { loadConfig } from "../../config/load.ts";
import { egressChecks } from "./egress.ts";
import type { Finding } from "./findings.ts";

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const each of open.splice(0).toReversed()) await each[Symbol.asyncDispose]();
});

const names: Readonly<Record<string, string[]>> = { "printer.example.org": ["10.1.2.3"] };

interface Setting {
  /** Of each pool. */
  readonly egress: readonly unknown[];
  readonly password?: string;
  readonly refusal?: number;
  readonly gitlab?: string;
  readonly proxies?: Partial<ProxyRoutes>;
}

interface Seen {
  readonly finding: Finding | undefined;
  readonly proxy: CompanyProxy;
  readonly server: TestServer;
}

/** What doctor finds behind a proxy that leads everywhere to one server. */
async function look({ egress, password = "right", refusal, gitlab, proxies }: Setting): Promise<Seen> {
  const server = await startHttpServer((_request, response) => response.end());
  open.push(server);
  const hosts = ["one.example.org:443", "two.example.org:8443", "gitlab.company.test:443"];
  const proxy = await startCompanyProxy({
    ...{
      user: "me",
      password: "right",
      routes: Object.fromEntries(hosts.map((each) => [each, server.port])),
    },
    ...(refusal === undefined ? {} : { refusal }),
  });
  open.push(proxy);
  const named = { origin: proxy.url, namedBy: "proxy.url", username: "me", password: new Secret(password) };
  const pools = Object.fromEntries(
    egress.map((each, index) => [
      `p${index}`,
      { egress: each, runner: { token: `glrt-${index}${"x".repeat(20)}` } },
    ]),
  );
  const text = JSON.stringify({ gitlab: { url: gitlab ?? "https://gitlab.company.test" }, pools });
  const config = await loadConfig({
    file: "/f.yaml",
    env: {},
    readFile: async () => ({ text, mode: 0o600 }),
  });
  const resolve = async (host: string) => names[host] ?? Promise.reject(new Error("no such name"));
  const checks = egressChecks({
    config: { ...config, proxy: { ...directRoutes, http: named, https: named, ...proxies } },
    resolve,
  });
  const [finding] = await Promise.all(checks.map(({ run }) => run(AbortSignal.timeout(15_000))));
  return { finding, proxy, server };
}

describe("guests' egress", () => {
  test("is one connection to the first single host of a list, with nothing sent to it", async () => {
    const { finding, proxy, server } = await look({
      egress: [["*.example.org", "two.example.org:8443", "one.example.org"]],
    });

    expect(finding).toEqual({
      level: "ok",
      message: expect.stringMatching(/\(proxy\.url\) leads guests of pool p0 to two\.example\.org:8443$/),
    });
    expect(proxy.asked).toEqual(["CONNECT two.example.org:8443"]);
    expect(server.seen).toEqual([]);
  });

  test("to the internet is tried with GitLab, for all pools at once, since nobody else is spoken to unasked", async () => {
    const { finding, proxy } = await look({ egress: ["internet", "none", "internet"] });

    expect(finding).toMatchObject({ level: "ok", message: expect.stringContaining("pool p0, pool p2") });
    expect(proxy.asked).toEqual(["CONNECT gitlab.company.test:443"]);
  });

  test.each([
    [
      { refusal: 403 },
      /do not get to one\.example\.org:443: the proxy .* answers 403/,
      /allow this computer/,
    ],
    [{ refusal: 502 }, /answers 502/, /proxy\.noProxy/],
    [{ password: "wrong-one" }, /the proxy cannot be used/, /See “proxy” above/],
    [
      { password: "wrong-one", proxies: { except: [".company.test"] } },
      /does not take the user and password/,
      /proxy\.passwordFile/,
    ],
  ])("that the proxy refuses is told with its reason: %j", async (setting, message, hint) => {
    const { finding } = await look({ egress: [["one.example.org"], "none"], ...setting });

    expect(finding).toEqual({
      level: "warn",
      message: expect.stringMatching(message),
      hint: expect.stringMatching(hint),
    });
    expect(JSON.stringify(finding)).not.toContain("wrong-one");
  });

  test("that one list has and another has not is told of the other alone", async () => {
    const { finding } = await look({ egress: [["one.example.org"], ["unknown.example.org"]] });

    expect(finding).toMatchObject({
      level: "warn",
      message: expect.stringMatching(/^guests of pool p1 do not/),
    });
  });

  test("to a name with a private address that no list opens is refused here, and the proxy hears nothing", async () => {
    const { finding, proxy } = await look({ egress: [["printer.example.org"]] });

    expect(finding).toMatchObject({
      level: "warn",
      message: expect.stringContaining("10.1.2.3"),
      hint: expect.stringContaining("private"),
    });
    expect(proxy.asked).toEqual([]);
  });

  test.each<[string, Setting]>([
    ["a list of domains alone", { egress: [["*.example.org"]] }],
    ["a list that the proxy is not asked for", { egress: [["one.example.org"]], proxies: { except: ["*"] } }],
    ["the internet, with a GitLab near by", { egress: ["internet"], proxies: { except: [".company.test"] } }],
    [
      "the internet, with a GitLab without TLS",
      { egress: ["internet"], gitlab: "http://gitlab.company.test" },
    ],
  ])("is not tried for %s, and says so", async (_what, setting) => {
    const { finding, proxy } = await look(setting);

    expect(finding).toMatchObject({ level: "ok", message: expect.stringContaining("not tried") });
    expect(proxy.asked).toEqual([]);
  });

  test.each<[string, Setting]>([
    ["no guest may leave", { egress: ["none"] }],
    ["guests' connections take no proxy", { egress: ["internet"], proxies: { https: undefined } }],
  ])("is no question where %s", async (_what, setting) => {
    expect((await look(setting)).finding).toBeUndefined();
  });
});
