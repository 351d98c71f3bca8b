import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { temporaryDirectory } from "../../../test/builders/temporary-directory.ts";
import { type CertificateAuthority, makeCertificateAuthority } from "../../../test/servers/certificates.ts";
import { type CompanyProxyOptions, startCompanyProxy } from "../../../test/servers/company-proxy.ts";
import { answer, startHttpServer } from "../../../test/servers/http-server.ts";
import { systemClock } from "../../base/clock.ts";
import { directRoutes } from "../../base/proxy/routes.ts";
import { Secret } from "../../base/secret.ts";
import type { Finding } from "./findings.ts";
import { type GitLabCheckOptions, gitlabChecks } from "./gitlab.ts";

let authority: CertificateAuthority;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
const open: AsyncDisposable[] = [];

beforeAll(async () => {
  authority = await makeCertificateAuthority();
});
beforeEach(async () => {
  directory = await temporaryDirectory();
});
afterEach(async () => {
  for (const each of open.splice(0).toReversed()) await each[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});
afterAll(() => authority[Symbol.asyncDispose]());

async function look(config: Partial<GitLabCheckOptions["config"]>): Promise<Record<string, Finding>> {
  const gitlab = { url: "http://127.0.0.1:9" };
  const checks = gitlabChecks({
    config: { gitlab, proxy: directRoutes, guests: {}, ...config },
    clock: systemClock,
  });
  const signal = AbortSignal.timeout(15_000);
  return Object.fromEntries(
    await Promise.all(checks.map(async ({ name, run }) => [name, await run(signal)] as const)),
  );
}

async function gitlabAnswering(status: number) {
  const server = await startHttpServer((_request, response) => answer(response, status));
  open.push(server);
  return server;
}

async function file(name: string, text: string): Promise<string> {
  const path = join(directory.path, name);
  await writeFile(path, text, { mode: 0o600 });
  return path;
}

describe("gitlab", () => {
  test.each([
    [401, "ok", "answers in"],
    [404, "fail", "not GitLab's API"],
    [503, "warn", "answers 503"],
  ])("an answer of %i is %s", async (status, level, words) => {
    const { url } = await gitlabAnswering(status);

    expect(await look({ gitlab: { url } })).toEqual({
      gitlab: expect.objectContaining({ level, message: expect.stringContaining(words) }),
    });
  });

  test.each([
    [{ url: "http://127.0.0.1:9" }, "firewalls"],
    [{ url: "http://no.such.host.invalid" }, "DNS"],
    [{ url: "http://127.0.0.1:9", caFile: "/no/such/file.pem" }, "gitlab.caFile"],
  ])("%j cannot be reached, with what to do", async (gitlab, hint) => {
    expect((await look({ gitlab }))["gitlab"]).toMatchObject({
      level: "fail",
      hint: expect.stringContaining(hint),
    });
  });
});

test("a certificate that is not trusted is told in one sentence", async () => {
  const tls = await authority.issue("127.0.0.1");
  const server = await startHttpServer((_request, response) => answer(response, 401), tls);
  open.push(server);

  expect((await look({ gitlab: { url: server.url } }))["gitlab"]).toMatchObject({
    level: "fail",
    message: expect.stringMatching(
      /^https:\S+ cannot be reached: GitLab's certificate is not trusted \(\w+\)$/,
    ),
    hint: expect.stringContaining("gitlab.caFile"),
  });
});

describe("a company's proxy", () => {
  async function behind(options: CompanyProxyOptions, password = "right") {
    const server = await gitlabAnswering(401);
    const routes = { "gitlab.company.test:80": server.port };
    const proxy = await startCompanyProxy({ user: "me", password: "right", routes, ...options });
    open.push(proxy);
    const named = { origin: proxy.url, namedBy: "proxy.url", username: "me", password: new Secret(password) };
    return {
      gitlab: { url: "http://gitlab.company.test" },
      proxy: { ...directRoutes, http: named, https: named },
    };
  }

  test("that leads to GitLab is told so", async () => {
    expect(await look(await behind({}))).toMatchObject({
      proxy: {
        level: "ok",
        message: expect.stringMatching(/proxy\.url\) leads to http:\/\/gitlab\.company\.test/),
      },
      gitlab: { level: "ok" },
    });
  });

  test("that does not take the password is the one to blame, not GitLab", async () => {
    const found = await look(await behind({}, "wrong-password"));

    expect(found).toMatchObject({
      proxy: { level: "fail", hint: expect.stringContaining("proxy.passwordFile") },
      gitlab: { level: "fail", hint: expect.stringContaining("proxy") },
    });
    expect(JSON.stringify(found)).not.toContain("wrong-password");
  });

  test("is left out where the exceptions say so", async () => {
    const config = await behind({});

    expect(await look({ ...config, proxy: { ...config.proxy, except: [".company.test"] } })).toMatchObject({
      proxy: { level: "ok", message: expect.stringContaining("without") },
      gitlab: { level: "fail" },
    });
  });
});

describe("certificates", () => {
  test("ends are told: of our own certificate, and of each authority", async () => {
    const expired = await authority.issue("firerunner", -1);
    const clientCertificateFile = await file("own.pem", expired.cert);
    const clientKeyFile = await file("own.key", expired.key);
    const caFile = await file("ca.pem", authority.ca);
    const { url } = await gitlabAnswering(401);

    const found = await look({ gitlab: { url, clientCertificateFile, clientKeyFile }, guests: { caFile } });

    expect(found).toMatchObject({
      gitlab: { level: "ok" },
      "client certificate": {
        level: "fail",
        message: expect.stringContaining("expired on"),
        hint: expect.stringContaining("renewed"),
      },
      authorities: {
        level: "warn",
        message: expect.stringContaining('guests.caFile: "test-authority" is valid until'),
      },
    });
  });
});
