import { writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { temporaryDirectory } from "../../../test/builders/temporary-directory.ts";
import { makeCertificateAuthority } from "../../../test/servers/certificates.ts";
import { answer, startHttpServer } from "../../../test/servers/http-server.ts";
import { systemClock } from "../../base/clock.ts";
import { directRoutes } from "../../base/proxy/routes.ts";
import { HttpConfig } from "../../server/config.ts";
import type { Finding, RunningFireRunner } from "./findings.ts";
import { listenerChecks } from "./listener.ts";

interface Asked {
  readonly listen?: readonly string[];
  readonly tls?: { readonly certificateFile: string; readonly keyFile: string };
  readonly url?: string;
  readonly caFile?: string;
  readonly running?: RunningFireRunner;
}

async function look({ listen = [], tls, url, caFile, running }: Asked): Promise<Record<string, Finding>> {
  const gitlab = { url: "http://127.0.0.1:9", ...(caFile === undefined ? {} : { caFile }) };
  const http = HttpConfig.parse({ listen, tls });
  const checks = listenerChecks({
    config: { gitlab, http, proxy: directRoutes },
    url,
    running,
    clock: systemClock,
  });
  const signal = AbortSignal.timeout(15_000);
  return Object.fromEntries(
    await Promise.all(checks.map(async ({ name, run }) => [name, await run(signal)] as const)),
  );
}

/** A port of loopback that somebody holds until the scope ends. */
async function heldPort(): Promise<AsyncDisposable & { port: number }> {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const end = () => new Promise<void>((resolve) => server.close(() => resolve()));
  return { port, [Symbol.asyncDispose]: end };
}

async function freePort(): Promise<number> {
  await using held = await heldPort();
  return held.port;
}

test("nothing is asked where no listener is wanted", async () => {
  expect(await look({})).toEqual({});
});

describe("an address to listen on", () => {
  test("is free, and still is afterwards", async () => {
    const name = `127.0.0.1:${await freePort()}`;
    const listen = [`http://${name}`];

    expect(await look({ listen })).toMatchObject({ [`listen ${name}`]: { level: "ok" } });
    expect(await look({ listen })).toMatchObject({ [`listen ${name}`]: { level: "ok" } });
  });

  test("is held by another program", async () => {
    await using held = await heldPort();

    const found = await look({ listen: [`http://127.0.0.1:${held.port}`] });

    expect(Object.values(found)).toMatchObject([
      {
        level: "fail",
        message: expect.stringContaining("another"),
        hint: expect.stringContaining("ss -ltnp"),
      },
    ]);
  });

  test("is held by the FireRunner that runs, which is not touched", async () => {
    await using held = await heldPort();
    const running = { addresses: [`http://127.0.0.1:${held.port}`] };

    const found = await look({ listen: [`http://localhost:${held.port}`], running });

    expect(Object.values(found)).toEqual([{ level: "ok", message: "the running FireRunner listens there" }]);
  });

  test("is free, and the FireRunner that runs knows nothing of it", async () => {
    const found = await look({
      listen: [`http://127.0.0.1:${await freePort()}`],
      running: { addresses: [] },
    });

    expect(Object.values(found)).toMatchObject([{ level: "warn", hint: expect.stringContaining("Restart") }]);
  });

  test.each([
    ["http://192.0.2.1:8080", "no such address"],
    ["http://no.such.host.invalid:8080", "not known"],
  ])("%s is not this computer's", async (listen, words) => {
    const [finding] = Object.values(await look({ listen: [listen] }));

    expect(finding).toMatchObject({ level: "fail", message: expect.stringContaining(words) });
  });
});

describe("the certificate", () => {
  async function certificateFinding(
    issued: { host: string; days?: number },
    url?: string,
  ): Promise<Finding | undefined> {
    await using authority = await makeCertificateAuthority();
    await using directory = await temporaryDirectory();
    const { cert, key } = await authority.issue(issued.host, issued.days);
    const tls = {
      certificateFile: join(directory.path, "tls.crt"),
      keyFile: join(directory.path, "tls.key"),
    };
    await writeFile(tls.certificateFile, cert);
    await writeFile(tls.keyFile, key, { mode: 0o600 });
    const found = await look({ listen: ["127.0.0.1:0"], tls, ...(url === undefined ? {} : { url }) });
    return found["certificate"];
  }

  test("fits, and has time", async () => {
    expect(
      await certificateFinding({ host: "localhost", days: 90 }, "https://localhost:1/webhook"),
    ).toMatchObject({
      level: "ok",
      message: expect.stringMatching(/fits its key and is valid until \d{4}-\d\d-\d\d$/),
    });
  });

  test.each([
    [{ host: "localhost", days: 3 }, "expires in"],
    [{ host: "localhost", days: -1 }, "has expired"],
    [{ host: "other.example.org", days: 90 }, "is not for localhost"],
  ])("%j keeps GitLab from calling", async (issued, words) => {
    const finding = await certificateFinding(issued, "https://localhost:1/webhook");

    expect(finding).toMatchObject({ level: "warn", hint: expect.any(String) });
    expect(finding?.message).toContain(words);
  });

  test("that is not there keeps FireRunner from starting", async () => {
    const tls = { certificateFile: "/no/such/tls.crt", keyFile: "/no/such/tls.key" };

    expect(await look({ listen: ["127.0.0.1:0"], tls })).toMatchObject({
      certificate: { level: "fail", message: expect.stringContaining("/no/such/tls.crt") },
    });
  });
});

describe("the path from GitLab", () => {
  const running = { addresses: [] };

  test("leads to FireRunner, below the path that a proxy has for it", async () => {
    await using server = await startHttpServer(({ path }, response) =>
      answer(response, path === "/ci/healthz" ? 200 : 404, { alive: true }),
    );

    expect(await look({ url: `${server.url}/ci/webhook`, running })).toEqual({
      "webhook.url": { level: "ok", message: `FireRunner answers at ${server.url}` },
    });
    expect(server.seen.map(({ method, path }) => `${method} ${path}`)).toEqual(["GET /ci/healthz"]);
  });

  test.each([
    [404, "<html>not here</html>"],
    [200, "<html>welcome</html>"],
    [200, { status: "ok" }],
  ])("leads to something else, which answers %i with %j", async (status, body) => {
    await using other = await startHttpServer((_request, response) => answer(response, status, body));

    expect(await look({ url: `${other.url}/webhook`, running })).toMatchObject({
      "webhook.url": { level: "warn", message: expect.stringContaining(`answers ${status}`) },
    });
  });

  test.each([
    [undefined, "start it"],
    [running, "http.listen"],
  ])("leads nowhere: what to do depends on whether FireRunner runs", async (runs, hint) => {
    const url = `http://127.0.0.1:${await freePort()}/webhook`;

    expect(await look({ url, ...(runs ? { running: runs } : {}) })).toMatchObject({
      "webhook.url": { level: "warn", hint: expect.stringContaining(hint) },
    });
  });

  test("leads to a name that is not known", async () => {
    expect(await look({ url: "https://no.such.host.invalid/webhook", running })).toMatchObject({
      "webhook.url": { level: "warn", hint: expect.stringContaining("DNS") },
    });
  });

  test("shows a certificate of a private authority, which is trusted once gitlab.caFile has it", async () => {
    await using authority = await makeCertificateAuthority();
    await using directory = await temporaryDirectory();
    const handle = (_request: unknown, response: Parameters<typeof answer>[0]) =>
      answer(response, 200, { alive: true });
    await using server = await startHttpServer(handle, await authority.issue("localhost"));
    const url = `${server.url.replace("127.0.0.1", "localhost")}/webhook`;
    const caFile = join(directory.path, "ca.pem");
    await writeFile(caFile, authority.ca);

    expect(await look({ url, running })).toMatchObject({
      "webhook.url": { level: "warn", message: expect.stringContaining("not trusted") },
    });
    expect(await look({ url, caFile, running })).toMatchObject({ "webhook.url": { level: "ok" } });
  });
});
