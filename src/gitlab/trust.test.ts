import { rename, writeFile } from "node:fs/promises";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { SecureVersion, TLSSocket } from "node:tls";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { temporaryDirectory } from "../../test/builders/temporary-directory.ts";
import { eventually } from "../../test/harness/eventually.ts";
import { type CertificateAuthority, makeCertificateAuthority } from "../../test/servers/certificates.ts";
import { systemClock } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import { Secret } from "../base/secret.ts";
import { gitLabErrorFrom } from "./errors.ts";
import { createGitLabHttp, type GitLabFiles, readGitLabTrust } from "./http.ts";
import { createRunnerApi } from "./runner-client.ts";

let authority: CertificateAuthority;
let stranger: CertificateAuthority;
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
const open: AsyncDisposable[] = [];

beforeAll(async () => {
  [authority, stranger] = await Promise.all([makeCertificateAuthority(), makeCertificateAuthority()]);
});
beforeEach(async () => {
  directory = await temporaryDirectory();
});
afterEach(async () => {
  for (const each of open.splice(0).toReversed()) await each[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});
afterAll(async () => {
  await Promise.all([authority[Symbol.asyncDispose](), stranger[Symbol.asyncDispose]()]);
});

/** A GitLab that lets nobody in without a certificate of the authority, as OpenSSL does, or as nginx does: with 400. */
async function strictGitLab(asks: { maxVersion?: SecureVersion; nginx?: boolean } = {}) {
  const visitors: string[] = [];
  const tls = await authority.issue("127.0.0.1");
  const server = createServer(
    {
      ...tls,
      ca: authority.ca,
      requestCert: true,
      rejectUnauthorized: asks.nginx !== true,
      maxVersion: asks.maxVersion ?? "TLSv1.3",
    },
    (request, response) => {
      const socket = request.socket as TLSSocket;
      if (!socket.authorized) {
        response.writeHead(400).end("<html>400 Bad Request: No required SSL certificate was sent</html>");
        return;
      }
      visitors.push(String(socket.getPeerCertificate().subject.CN));
      response.writeHead(200, { connection: "close" }).end(JSON.stringify({ id: 7 }));
    },
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  open.push({
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  });
  return { url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, visitors };
}

async function file(name: string, text: string): Promise<string> {
  const path = join(directory.path, name);
  await writeFile(`${path}.new`, text, { mode: 0o600 });
  await rename(`${path}.new`, path);
  return path;
}

async function certificateOf(from: CertificateAuthority, name: string): Promise<GitLabFiles> {
  const { cert, key } = await from.issue(name);
  return { clientCertificateFile: await file("own.pem", cert), clientKeyFile: await file("own.key", key) };
}

async function apiAt(url: string, own: GitLabFiles = {}) {
  const caFile = await file("ca.pem", authority.ca);
  const trust = await readGitLabTrust({ files: { caFile, ...own } });
  const http = createGitLabHttp({ url, trust });
  open.push({ [Symbol.asyncDispose]: () => http.dispatcher.destroy() });
  return createRunnerApi({ http, clock: systemClock, version: "1.2.3", systemId: "s_0123456789ab" });
}

const token = new Secret("glrt-x");

describe("a GitLab that asks for a client certificate", () => {
  test.each(["TLSv1.2", "TLSv1.3"] as const)("by %s takes ours", async (maxVersion) => {
    const { url, visitors } = await strictGitLab({ maxVersion });
    const api = await apiAt(url, await certificateOf(authority, "firerunner.company.test"));

    expect(await api.verify(token)).toMatchObject({ id: 7 });
    expect(visitors).toEqual(["firerunner.company.test"]);
  });

  test.each([{ maxVersion: "TLSv1.2" as const }, { maxVersion: "TLSv1.3" as const }, { nginx: true }])(
    "and gets none says so in our words: %j",
    async (asks) => {
      const { url } = await strictGitLab(asks);
      const api = await apiAt(url);

      await expect(api.verify(token)).rejects.toMatchObject({
        code: "gitlab_client_certificate",
        message: expect.stringMatching(/asks? for a client certificate/),
        hint: expect.stringContaining("gitlab.clientCertificateFile"),
      });
      // A wait and not an end: the certificate may come.
      expect(await api.requestJob({ token, info: {} as never })).toMatchObject({
        kind: "wait",
        fatal: false,
      });
    },
  );

  test("does not take that of another authority", async () => {
    const { url, visitors } = await strictGitLab();
    const api = await apiAt(url, await certificateOf(stranger, "firerunner.company.test"));

    await expect(api.verify(token)).rejects.toMatchObject({ retryable: true });
    expect(visitors).toEqual([]);
  });

  test("sees a renewed one without a restart, and a broken one never", async () => {
    const { url, visitors } = await strictGitLab();
    const api = await apiAt(url, await certificateOf(authority, "first.company.test"));
    await api.verify(token);
    const other = await authority.issue("broken.company.test");
    await file("own.pem", other.cert);
    await api.verify(token);
    await api.verify(token);

    await certificateOf(authority, "second.company.test");

    await eventually("the renewed certificate is shown", async () => {
      await api.verify(token);
      return visitors.at(-1) === "second.company.test";
    });
    expect(visitors.slice(0, 3)).toEqual(Array(3).fill("first.company.test"));
  });
});

test.each(["UNKNOWN_CA", "CERTIFICATE_EXPIRED", "CERTIFICATE_REVOKED", "BAD_CERTIFICATE"])(
  "the alert %s is about our certificate",
  (alert) => {
    const cause = Object.assign(new Error("alert"), { code: `ERR_SSL_TLSV1_ALERT_${alert}` });

    expect(gitLabErrorFrom(cause, "asking")).toMatchObject({ code: "gitlab_client_certificate" });
  },
);

describe("files that cannot be used are refused by name", () => {
  test.each([
    ["a key of another certificate", "does not belong"],
    ["no key", "does not exist"],
    ["a certificate in place of the key", "holds no private key"],
  ])("%s", async (what, words) => {
    const { clientCertificateFile } = await certificateOf(authority, "firerunner");
    const other = await authority.issue("other");
    const clientKeyFile =
      what === "no key"
        ? join(directory.path, "none.key")
        : await file("x.key", what.startsWith("a key") ? other.key : other.cert);

    const error = await readGitLabTrust({ files: { clientCertificateFile, clientKeyFile } }).catch(
      (reason: unknown) => reason,
    );

    expect(error).toMatchObject({ code: "gitlab_client_certificate" });
    expect(describeError(error)).toContain(words);
    expect(describeError(error)).not.toContain("BEGIN");
  });
});
