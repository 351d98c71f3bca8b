import { describe, expect, test } from "vitest";
import { proxiesOfEnvironment, proxyVariables } from "./config.ts";
import { exceptionProblem, type ProxyServer, proxyFor, targetOfUrl } from "./routes.ts";
import { addressOf, authorizationOf, parseProxy } from "./server.ts";

const http: ProxyServer = { origin: "http://plain.example.org:3128", namedBy: "http_proxy" };
const https: ProxyServer = { origin: "http://secure.example.org:3128", namedBy: "https_proxy" };

function wayTo(url: string, ...except: string[]) {
  return proxyFor(targetOfUrl(new URL(url)), { http, https, except, ca: undefined });
}

describe("which proxy leads where", () => {
  test("https and http have a proxy each", () => {
    expect(wayTo("https://gitlab.example.com")).toBe(https);
    expect(wayTo("http://gitlab.example.com")).toBe(http);
    const only = { http: undefined, https, except: [], ca: undefined };
    expect(proxyFor(targetOfUrl(new URL("http://a.example")), only)).toBeUndefined();
  });

  test.each([
    "http://localhost:8080",
    "https://x.localhost",
    "http://127.8.9.10",
    "http://[::1]:80",
    "https://localhost.",
  ])("%s is this computer, which no proxy leads to", (url) => expect(wayTo(url)).toBeUndefined());

  test.each([
    ["example.com", "https://example.com", true],
    ["example.com", "https://gitlab.example.com", true],
    ["example.com", "https://badexample.com", false],
    [".example.com", "https://gitlab.example.com", true],
    [".example.com", "https://example.com", true],
    ["*.example.com", "https://gitlab.example.com", true],
    ["EXAMPLE.com.", "https://gitlab.Example.COM.", true],
    ["example.com:8443", "https://gitlab.example.com:8443", true],
    ["example.com:8443", "https://gitlab.example.com", false],
    ["example.com:443", "https://gitlab.example.com", true],
    ["example.com:80", "http://gitlab.example.com", true],
    ["10.0.0.0/8", "https://10.20.30.40", true],
    ["10.0.0.0/8", "https://11.20.30.40", false],
    ["10.0.0.0/8", "https://[::ffff:10.1.2.3]", true],
    ["10.1.2.3", "https://10.1.2.3:99", true],
    ["10.1.2.3:99", "https://10.1.2.3", false],
    ["fd00::/8", "https://[fd12::1]", true],
    ["[fd12::1]:8443", "https://[fd12::1]:8443", true],
    ["fd12::1", "https://[fd12:0::1]", true],
    ["10.0.0.0/8", "https://ten.example.com", false],
    ["*", "https://anything.example", true],
  ])("“%s” excepts %s: %s", (entry, url, isExcepted) => {
    expect(wayTo(url, "other.example", entry) === undefined).toBe(isExcepted);
  });

  test.each([
    "",
    "http://example.org",
    "10.0.0.0/33",
    "10.0.0/8",
    "a b",
    "example.org:99999",
    "[10.0.0.1",
    "exa*mple.org",
  ])("“%s” is no exception", (entry) => expect(exceptionProblem(entry)).toContain("expected a name"));
});

describe("the address of a proxy", () => {
  test("may carry a user and a password, which are never shown", () => {
    const parsed = parseProxy("http://us%40er:p%3Ass@proxy.example.org:3128/", "HTTPS_PROXY");

    expect(parsed).toMatchObject({ server: { origin: "http://proxy.example.org:3128", username: "us@er" } });
    const server = (parsed as { server: ProxyServer }).server;
    expect(authorizationOf(server)).toBe(`Basic ${Buffer.from("us@er:p:ss").toString("base64")}`);
    expect(JSON.stringify(server)).not.toContain("p:ss");
  });

  test.each([
    ["proxy.example.org:3128", "proxy.example.org", 3128],
    ["https://proxy.example.org", "proxy.example.org", 443],
    ["http://[fd00::1]:8080", "fd00::1", 8080],
  ])("%s is at %s, port %i", (text, host, port) => {
    const parsed = parseProxy(text, "it");
    expect("server" in parsed && addressOf(parsed.server)).toEqual({ host, port });
  });

  test.each([
    "socks5://user:hidden@proxy:1080",
    "http://user:hidden@:3128",
    "http://user:hidden@proxy/path",
    "http://user:hid%den@proxy",
  ])("%s cannot be used, and the words do not repeat it", (text) => {
    const parsed = parseProxy(text, "ALL_PROXY");
    expect(parsed).toMatchObject({ problem: expect.stringContaining("ALL_PROXY") });
    expect(JSON.stringify(parsed)).not.toMatch(/hidden|hid%den/);
  });
});

describe("the environment", () => {
  test("small letters come before capital ones, and ALL_PROXY last", () => {
    const env = {
      https_proxy: "http://a:1",
      HTTPS_PROXY: "http://b:2",
      ALL_PROXY: "http://c:3",
      NO_PROXY: "x.example, 10.0.0.0/8 ,.y",
    };

    expect(proxiesOfEnvironment(env)).toMatchObject({
      https: { origin: "http://a:1", namedBy: "https_proxy" },
      http: { origin: "http://c:3", namedBy: "ALL_PROXY" },
      except: ["x.example", "10.0.0.0/8", ".y"],
      problems: [],
    });
  });

  test("an empty variable counts as not there", () => {
    expect(proxiesOfEnvironment({ https_proxy: "", HTTPS_PROXY: "http://b:2" })).toMatchObject({
      https: { origin: "http://b:2" },
      http: undefined,
    });
  });

  test("of programs that we start says the same, and nothing of what stood there before", () => {
    const server = parseProxy("http://me:p%40ss@proxy:3128", "proxy.url");
    const named = "server" in server ? server.server : undefined;
    const env = {
      ...{ ALL_PROXY: "http://old:1" },
      ...proxyVariables({ http: named, https: named, except: [".corp"], ca: undefined }),
    };

    expect(env).toMatchObject({
      http_proxy: "http://me:p%40ss@proxy:3128/",
      NO_PROXY: "localhost,127.0.0.1,::1,.corp",
      ALL_PROXY: undefined,
    });
    expect(proxiesOfEnvironment(env)).toMatchObject({
      https: { origin: "http://proxy:3128", username: "me" },
    });
  });

  test("a proxy of another kind is named once, with the way to do without", () => {
    const { problems, http: plain } = proxiesOfEnvironment({ ALL_PROXY: "socks5h://proxy:1080" });

    expect(plain).toBeUndefined();
    expect(problems).toEqual([
      { variable: "ALL_PROXY", message: expect.stringMatching(/socks5h.*proxy.url: none/) },
    ]);
  });
});
