import { inspect } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { filesInMemory } from "../../test/builders/files-in-memory.ts";
import { type CertificateAuthority, makeCertificateAuthority } from "../../test/servers/certificates.ts";
import { describeError } from "../base/errors.ts";
import { loadConfig, loadLocalConfig } from "./load.ts";

const PASSWORD = "swordfish-of-the-proxy";
let authority: CertificateAuthority;

beforeAll(async () => {
  authority = await makeCertificateAuthority();
});
afterAll(() => authority[Symbol.asyncDispose]());

const base = "gitlab: { url: https://gitlab.example.com }\npools: { a: { runner: { token: glrt-a } } }\n";

function options(yaml: string, env: NodeJS.ProcessEnv = {}, more: Record<string, string> = {}) {
  const files = {
    "/e/f.yaml": base + yaml,
    "/e/password": `${PASSWORD}\n`,
    "/e/ca.pem": authority.ca,
    ...more,
  };
  return {
    file: "/e/f.yaml",
    env,
    readFile: filesInMemory(files),
  };
}

test("a proxy of the configuration wins over the environment, and its password is shown nowhere", async () => {
  const yaml =
    "proxy: { url: 'http://proxy.example.org:3128', username: me, passwordFile: password, caFile: ca.pem, noProxy: [.corp] }";
  const config = await loadConfig(options(yaml, { HTTPS_PROXY: "http://other:1", NO_PROXY: "elsewhere" }));

  expect(config.proxy.https).toMatchObject({
    origin: "http://proxy.example.org:3128",
    namedBy: "proxy.url",
    username: "me",
  });
  expect(config.proxy.https?.password?.reveal()).toBe(PASSWORD);
  expect(config.proxy).toMatchObject({ except: [".corp"], ca: authority.ca, caFile: "/e/ca.pem" });
  expect(config.proxy.http).toBe(config.proxy.https);
  expect(`${JSON.stringify(config)} ${inspect(config, { depth: 9 })}`).not.toContain(PASSWORD);
  expect((await loadLocalConfig(options(yaml))).proxy.https?.password?.reveal()).toBe(PASSWORD);
});

test("without one the environment's is taken, and config show tells whose it is without its password", async () => {
  const env = { https_proxy: `http://me:${PASSWORD}@proxy:3128`, no_proxy: ".corp,10.0.0.0/8" };
  const config = await loadConfig(options("proxy: { noProxy: [more.example] }", env));

  expect(config.proxy).toMatchObject({ http: undefined, except: [".corp", "10.0.0.0/8", "more.example"] });
  expect(config.values).toContainEqual({
    path: ["proxy", "url"],
    value: "http://proxy:3128",
    origin: "https_proxy",
  });
  expect(JSON.stringify(config)).not.toContain(PASSWORD);
});

test("url: none does without, whatever the environment says", async () => {
  const config = await loadConfig(
    options("proxy: { url: none }", { HTTPS_PROXY: "socks5://x:1", ALL_PROXY: "http://y" }),
  );

  expect(config.proxy).toMatchObject({ http: undefined, https: undefined });
});

test.each([
  [
    `proxy: { url: 'http://me:${PASSWORD}@proxy:3128' }`,
    {},
    /f\.yaml:3.*proxy\.username and proxy\.passwordFile/,
  ],
  ["proxy: { url: 'socks5://proxy:1080' }", {}, /HTTP proxy/],
  ["proxy: { url: 'http://proxy:3128', passwordFile: password }", {}, /a password needs/],
  ["proxy: { username: me }", { HTTPS_PROXY: "http://a:1" }, /belongs to a proxy that “url” names/],
  ["proxy: { url: 'http://proxy:3128', username: me, passwordFile: none }", {}, /none does not exist/],
  ["proxy: { url: 'http://proxy:3128', noProxy: ['http://x'] }", {}, /is no exception/],
  ["proxy: { caFile: password }", {}, /holds no certificate/],
  ["guests: { caFile: key.pem }", {}, /key\.pem holds a private key/],
  [
    "gitlab: { url: https://g.example.com, clientKeyFile: password }",
    {},
    /is no PEM file|needs gitlab\.clientCertificateFile/,
  ],
  ["", { HTTPS_PROXY: `socks5://me:${PASSWORD}@proxy:1080` }, /HTTPS_PROXY: .*proxy\.url: none/],
])("%s is refused with its place", async (yaml, env, words) => {
  const text = yaml.startsWith("gitlab:") ? yaml : base + yaml;
  const given = options("", env, {
    "/e/key.pem": "-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----\n",
  });
  const readFile = async (path: string) =>
    path === "/e/f.yaml" ? { text, mode: 0o600 } : await given.readFile(path);

  const error = await loadConfig({ ...given, readFile }).catch((reason: unknown) => reason);

  expect(describeError(error)).toMatch(words);
  expect(describeError(error)).not.toContain(PASSWORD);
});

test("a client certificate without its key is told at its line", async () => {
  const { cert } = await authority.issue("me");
  const given = options("", {}, { "/e/own.pem": cert });
  const text =
    "gitlab:\n  url: https://g.example.com\n  clientCertificateFile: own.pem\npools: { a: { runner: { token: glrt-a } } }\n";
  const readFile = async (path: string) =>
    path === "/e/f.yaml" ? { text, mode: 0o600 } : await given.readFile(path);

  await expect(loadConfig({ ...given, readFile })).rejects.toThrow(
    /f\.yaml:3:\d+: gitlab\.clientCertificateFile needs gitlab\.clientKeyFile/,
  );
});
