import type { AddressInfo, LookupFunction } from "node:net";
import { createServer, type Server } from "node:net";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type CertificateAuthority, makeCertificateAuthority } from "../../test/servers/certificates.ts";
import { answer, type Handler, startHttpServer } from "../../test/servers/http-server.ts";
import { systemClock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import { Secret } from "../base/secret.ts";
import type { GitLabError } from "./errors.ts";
import { createGitLabHttp, type GitLabHttpOptions } from "./http.ts";
import { createRunnerApi } from "./runner-client.ts";

const token = new Secret("glrt-token-of-the-runner");

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const each of open.splice(0).toReversed()) await each[Symbol.asyncDispose]();
});

function apiAt(options: GitLabHttpOptions) {
  const http = createGitLabHttp(options);
  open.push({ [Symbol.asyncDispose]: () => http.dispatcher.destroy() });
  return createRunnerApi({ http, clock: systemClock, version: "1.2.3", systemId: "s_0123456789ab" });
}

async function gitLab(handle: Handler) {
  const server = await startHttpServer(handle);
  open.push(server);
  return { server, api: apiAt({ url: server.url }) };
}

async function answering(status: number, body?: unknown, headers: Record<string, string> = {}) {
  return await gitLab((_request, response) => answer(response, status, body, headers));
}

/** The error of a verification that has to fail, with a look that no secret is in it. */
async function refusal(api: ReturnType<typeof apiAt>): Promise<GitLabError> {
  const error = await api.verify(token).then(
    () => expect.fail("verified"),
    (reason: unknown) => reason,
  );
  expect(`${describeError(error)} ${(error as GitLabError).hint}`).not.toContain(token.reveal());
  return error as GitLabError;
}

describe("verify", () => {
  test("gives the runner's id", async () => {
    const { api, server } = await answering(200, { id: 9, token: "glrt-…", token_expires_at: null });

    const runner = await api.verify(token, undefined, { executor: "shell" });

    expect(runner).toEqual({ id: 9, tokenExpiresAt: null });
    expect(server.seen[0]).toMatchObject({ method: "POST", path: "/api/v4/runners/verify" });
    expect(server.seen[0]?.json).toEqual({
      token: token.reveal(),
      system_id: "s_0123456789ab",
      info: { executor: "shell" },
    });
  });

  test("does not claim to be this installation's runner when it cannot say what that is", async () => {
    const { api, server } = await answering(200, { id: 9 });

    await api.verify(token);

    expect(server.seen[0]?.json).toEqual({ token: token.reveal() });
  });

  test.each([
    ["an unknown token", 403, { message: "403 Forbidden" }, "gitlab_wrong_token", false],
    ["a runner without a project", 422, { message: "Runner is orphaned" }, "gitlab_wrong_token", false],
    ["an API that is not there", 404, { error: "404 Not Found" }, "gitlab_wrong_url", false],
    ["a web page", 200, "<html>Welcome</html>", "gitlab_wrong_url", false],
    ["a gate in front of GitLab", 403, "<html>Forbidden</html>", "gitlab_wrong_url", false],
    ["another API", 200, { status: "ok" }, "gitlab_wrong_url", false],
    ["an internal problem", 500, { message: "500" }, "gitlab_unavailable", true],
    ["a broken gateway", 502, "<html>502</html>", "gitlab_unavailable", true],
    ["maintenance", 503, { message: "GitLab Maintenance" }, "gitlab_unavailable", true],
    ["too many requests", 429, "Retry later", "gitlab_unavailable", true],
  ])("tells %s", async (_what, status, body, code, retryable) => {
    const { api } = await answering(status, body);

    const error = await refusal(api);

    expect(error).toMatchObject({ code, retryable });
    if (!retryable) expect(error.hint).toBeTruthy();
  });

  test("says where a redirect points, and does not go there", async () => {
    const { api, server } = await answering(301, "", { Location: "https://gitlab.example.com/api/v4/x" });

    const error = await refusal(api);

    expect(error.code).toBe("gitlab_wrong_url");
    expect(error.message).toContain("https://gitlab.example.com");
    expect(server.seen).toHaveLength(1);
  });

  test("tells a refused connection", async () => {
    const { server, api } = await answering(200);
    await server[Symbol.asyncDispose]();
    open.splice(open.indexOf(server), 1);

    const error = await refusal(api);

    expect(error).toMatchObject({ code: "gitlab_unreachable", retryable: true });
    expect(error.message).toContain("refused");
  });

  test("tells a name that cannot be resolved", async () => {
    const lookup: LookupFunction = (hostname, _options, callback) =>
      callback(Object.assign(new Error(`getaddrinfo ENOTFOUND ${hostname}`), { code: "ENOTFOUND" }), "");

    const error = await refusal(apiAt({ url: "https://gitlab.example.invalid", lookup }));

    expect(error.code).toBe("gitlab_unreachable");
    expect(error.message).toContain("resolved");
  });

  test("tells a connection that is cut before the answer, and in the middle of it", async () => {
    const { api } = await gitLab((_request, response) => response.destroy());
    expect((await refusal(api)).code).toBe("gitlab_unreachable");

    const { api: halfway } = await gitLab((_request, response) => {
      response.writeHead(200, { "content-length": 100 }).write("{", () => response.destroy());
    });
    expect((await refusal(halfway)).code).toBe("gitlab_unreachable");
  });

  test("can be given up", async () => {
    const { api } = await gitLab(() => new Promise(() => {}));
    const reason = new Error("enough");
    const controller = new AbortController();

    const verifying = api.verify(token, controller.signal);
    setTimeout(() => controller.abort(reason), 20);

    await expect(verifying).rejects.toBe(reason);
  });
});

describe("resetToken", () => {
  test("gives the new token and its end", async () => {
    const { api, server } = await answering(201, {
      token: "glrt-new",
      token_expires_at: "2026-05-01T10:00:00.000Z",
    });

    const renewed = await api.resetToken(token);

    expect(renewed.token.reveal()).toBe("glrt-new");
    expect(renewed.tokenExpiresAt).toBe(Date.UTC(2026, 4, 1, 10));
    expect(server.seen).toMatchObject([
      { method: "POST", path: "/api/v4/runners/reset_authentication_token", json: { token: token.reveal() } },
    ]);
  });

  test.each([
    ["an unknown token", 403, { message: "403 Forbidden" }, "gitlab_wrong_token", false],
    ["a web page", 201, "<html>Welcome</html>", "gitlab_wrong_url", false],
    ["another API", 201, { status: "ok" }, "gitlab_wrong_url", false],
    ["maintenance", 503, { message: "GitLab Maintenance" }, "gitlab_unavailable", true],
  ])("tells %s, and asks once", async (_what, status, body, code, retryable) => {
    const { api, server } = await answering(status, body);

    await expect(api.resetToken(token)).rejects.toMatchObject({
      code,
      retryable,
      message: expect.stringContaining("renewing the runner token"),
    });
    expect(server.seen).toHaveLength(1);
  });
});

test("verify tells when the token ends", async () => {
  const { api } = await answering(200, { id: 9, token_expires_at: "2026-05-01T10:00:00.000Z" });

  expect(await api.verify(token)).toEqual({ id: 9, tokenExpiresAt: Date.UTC(2026, 4, 1, 10) });
});

describe("verify over TLS", () => {
  const host = "gitlab.example.com";
  const toLoopback: LookupFunction = (_hostname, options, callback) =>
    options.all ? callback(null, [{ address: "127.0.0.1", family: 4 }]) : callback(null, "127.0.0.1", 4);
  let authority: CertificateAuthority;

  beforeAll(async () => {
    authority = await makeCertificateAuthority();
  });
  afterAll(async () => {
    await authority[Symbol.asyncDispose]();
  });

  async function secured(certificate: { key: string; cert: string }) {
    const server = await startHttpServer(
      (_request, response) => answer(response, 200, { id: 9 }),
      certificate,
    );
    open.push(server);
    return `https://${host}:${server.port}`;
  }

  test("trusts the configured authority", async () => {
    const url = await secured(await authority.issue(host));

    expect(await apiAt({ url, ca: authority.ca, lookup: toLoopback }).verify(token)).toMatchObject({ id: 9 });
  });

  test("does not trust an authority that is not configured, and says what to do", async () => {
    const url = await secured(await authority.issue(host));

    const error = await refusal(apiAt({ url, lookup: toLoopback }));

    expect(error).toMatchObject({ code: "gitlab_certificate", retryable: false });
    expect(error.hint).toContain("gitlab.caFile");
  });

  test("tells a certificate for another name", async () => {
    const url = await secured(await authority.issue("other.example.com"));

    const error = await refusal(apiAt({ url, ca: authority.ca, lookup: toLoopback }));

    expect(error.code).toBe("gitlab_certificate");
    expect(error.hint).toContain("host name");
  });

  test("tells an expired certificate", async () => {
    const url = await secured(await authority.issue(host, -1));

    const error = await refusal(apiAt({ url, ca: authority.ca, lookup: toLoopback }));

    expect(error.code).toBe("gitlab_certificate");
    expect(error.hint).toContain("renew");
  });

  test("tells https spoken to an http port, and http to something that is not HTTP", async () => {
    const plain = await startHttpServer((_request, response) => answer(response, 200, { id: 9 }));
    open.push(plain);
    const tlsToPlain = await refusal(apiAt({ url: `https://${host}:${plain.port}`, lookup: toLoopback }));
    expect(tlsToPlain.code).toBe("gitlab_wrong_url");

    const greeter = await startGreeter();
    const { port } = greeter.address() as AddressInfo;
    expect((await refusal(apiAt({ url: `http://127.0.0.1:${port}` }))).code).toBe("gitlab_wrong_url");
  });

  async function startGreeter(): Promise<Server> {
    const server = createServer((socket) => {
      open.push({ [Symbol.asyncDispose]: async () => void socket.destroy() });
      socket.on("error", () => {});
      socket.write("SSH-2.0-OpenSSH_9.2\r\n");
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    open.push({ [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())) });
    return server;
  }
});
