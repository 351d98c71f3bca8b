import { request as httpRequest } from "node:http";
import { request as tlsRequest } from "node:https";
import { connect, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { Secret } from "../../src/base/secret.ts";
import { MetricsConfig } from "../../src/server/metrics/config.ts";
import { type MetricsServer, openMetricsServer } from "../../src/server/metrics/metrics-server.ts";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import { eventually } from "../harness/eventually.ts";
import { certificateFiles } from "../harness/public-server.ts";
import { type CertificateAuthority, makeCertificateAuthority } from "../servers/certificates.ts";

let authority: CertificateAuthority;
beforeAll(async () => {
  authority = await makeCertificateAuthority();
});
afterAll(() => authority[Symbol.asyncDispose]());

interface Options {
  readonly settings?: object;
  readonly token?: string;
  readonly limits?: object;
  readonly scrape?: () => Promise<void>;
}

async function openTestServer({ settings = {}, token, limits = {}, scrape }: Options = {}) {
  const warnings: object[] = [];
  const formats: string[] = [];
  const config = (changes: object, given: string | undefined) => ({
    ...MetricsConfig.parse({ listen: ["http://127.0.0.1:0"], ...settings, ...changes }),
    token: given === undefined ? undefined : new Secret(given),
  });
  const note = (fields: object) => void warnings.push(fields);
  const server: MetricsServer = await openMetricsServer({
    config: config({}, token),
    async scrape(format) {
      formats.push(format);
      await scrape?.();
      return { contentType: `text/plain; x=${format}`, text: "up 1\n" };
    },
    clock: systemClock,
    log: { ...silentLog, warn: note, error: note, child: () => silentLog },
    limits,
  });
  return {
    ...{ server, warnings, formats },
    address: new URL(server.addresses[0] ?? ""),
    reload: (changes: object, given?: string) => server.reload(config(changes, given)),
    [Symbol.asyncDispose]: () => server.close(),
  };
}

interface Asked {
  readonly path?: string;
  readonly headers?: Record<string, string>;
  /** From which address of this computer. */
  readonly from?: string;
  readonly method?: string;
  readonly body?: string;
}

async function ask(address: URL, { path = "/metrics", from, body, ...options }: Asked = {}) {
  const send = address.protocol === "https:" ? tlsRequest : httpRequest;
  return await new Promise<{ status: number; text: string; headers: object }>((resolve, reject) => {
    const request = send(
      {
        host: address.hostname,
        port: address.port,
        path,
        agent: false,
        rejectUnauthorized: false,
        ...(from ? { localAddress: from } : {}),
        ...options,
      },
      (answer) =>
        void text(answer).then(
          (whole) => resolve({ status: answer.statusCode ?? 0, text: whole, headers: answer.headers }),
          reject,
        ),
    );
    request.on("error", reject);
    request.end(body);
  });
}

async function idle(address: URL, from: string): Promise<Socket> {
  const socket = connect({ host: address.hostname, port: Number(address.port), localAddress: from });
  socket.on("error", () => {});
  await new Promise((resolve) => socket.once("connect", resolve));
  return socket;
}

describe("what is answered", () => {
  test("at /metrics alone, and in the form that is asked for", async () => {
    await using here = await openTestServer();

    expect(await ask(here.address)).toMatchObject({
      status: 200,
      text: "up 1\n",
      headers: { "content-type": "text/plain; x=prometheus", "cache-control": "no-store" },
    });
    const accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    await ask(here.address, { headers: { accept } });
    await ask(here.address, { headers: { accept: "application/openmetrics-text;q=0, */*" } });
    await ask(here.address, { headers: { accept: "application/openmetrics-text;version=0.0.1" } });
    expect(here.formats).toEqual(["prometheus", "openmetrics", "prometheus", "prometheus"]);

    for (const path of ["/", "/metrics/x", "/%zz", "/healthz", "//metrics", "/metrics%00"])
      expect((await ask(here.address, { path })).status, path).toBe(404);
    expect((await ask(here.address, { method: "POST", body: "x".repeat(100_000) })).status).toBe(404);
    expect((await ask(here.address, { path: "/metrics?name[]=up" })).status).toBe(200);
  });

  test("when the scrape fails: 500, and no word of why", async () => {
    await using here = await openTestServer({ scrape: () => Promise.reject(new Error("inner secret")) });

    const { status, text: words } = await ask(here.address);
    expect(status).toBe(500);
    expect(words).not.toContain("secret");
    expect(here.warnings).toContainEqual({ why: "inner secret" });
  });
});

describe("who may ask", () => {
  test("addresses of the allow-list, which a reload changes", async () => {
    await using here = await openTestServer({ settings: { allow: ["127.0.0.2"] } });

    expect((await ask(here.address, { from: "127.0.0.1" })).status).toBe(403);
    expect((await ask(here.address, { from: "127.0.0.1", path: "/x" })).status).toBe(403);
    expect((await ask(here.address, { from: "127.0.0.2" })).status).toBe(200);
    // Who it is decides the connection, not a header.
    const headers = { "x-forwarded-for": "127.0.0.2" };
    expect((await ask(here.address, { from: "127.0.0.1", headers })).status).toBe(403);
    await here.reload({ allow: ["127.0.0.0/30"] });
    expect((await ask(here.address, { from: "127.0.0.1" })).status).toBe(200);
    expect(here.formats.length).toBe(2);
    expect(here.warnings).toEqual([expect.objectContaining({ client: "127.0.0.1", status: 403 })]);
  });

  test("those with the token, which a reload changes", async () => {
    await using here = await openTestServer({ token: "right-token" });
    const asked = async (authorization?: string) =>
      (await ask(here.address, { headers: authorization === undefined ? {} : { authorization } })).status;

    expect(await asked()).toBe(401);
    for (const wrong of [
      "Bearer right-toke",
      "Bearer right-token2",
      "Basic right-token",
      "Bearer",
      "right-token",
    ])
      expect(await asked(wrong), wrong).toBe(401);
    expect(await asked("Bearer right-token")).toBe(200);
    expect(await asked("bearer right-token")).toBe(200);
    await here.reload({}, "new-token");
    expect([await asked("Bearer right-token"), await asked("Bearer new-token")]).toEqual([401, 200]);
    expect(JSON.stringify(here.warnings)).not.toContain("right-toke");
  });

  test("and not more often than anybody needs", async () => {
    await using here = await openTestServer();

    const statuses = [];
    for (let count = 0; count < 130; count++) statuses.push((await ask(here.address)).status);
    expect(statuses.slice(0, 120).every((status) => status === 200)).toBe(true);
    expect(statuses.at(-1)).toBe(429);
    // Another client has its own.
    expect((await ask(here.address, { from: "127.0.0.9" })).status).toBe(200);
  });
});

describe("what it can be made to hold", () => {
  test("connections of those that may not ask keep nobody out", async () => {
    await using here = await openTestServer({ settings: { allow: ["127.0.0.2"] } });
    const sockets = await Promise.all(Array.from({ length: 60 }, () => idle(here.address, "127.0.0.1")));
    await eventually("most of them were cut", () => sockets.filter(({ closed }) => closed).length >= 52);

    expect((await ask(here.address, { from: "127.0.0.2" })).status).toBe(200);
    for (const socket of sockets) socket.destroy();
  });

  test("connections of one that may are few, and silent ones end by themselves", async () => {
    await using here = await openTestServer({ limits: { headersTimeout: 200, requestTimeout: 200 } });
    const sockets = await Promise.all(Array.from({ length: 40 }, () => idle(here.address, "127.0.0.1")));
    await eventually(
      "those beyond the bound were cut",
      () => sockets.filter(({ closed }) => closed).length >= 8,
    );
    for (const socket of sockets)
      if (!socket.closed) socket.write("GET /metrics HTTP/1.1\r\nhost: x\r\nslow: ");
    // Whatever they are answered, the connections end.
    for (const socket of sockets) socket.resume();

    await eventually("all have ended", () => sockets.every(({ closed }) => closed));
    expect((await ask(here.address)).status).toBe(200);
  });

  test("headers end at 16 KiB", async () => {
    await using here = await openTestServer();

    expect((await ask(here.address, { headers: { long: "x".repeat(17_000) } })).status).toBe(431);
    expect((await ask(here.address)).status).toBe(200);
  });
});

describe("TLS", () => {
  test("with the certificate of the files, and with the next one without a restart", async () => {
    await using directory = await temporaryDirectory();
    const files = certificateFiles(directory.path);
    await files.write(await authority.issue("one.example.org", 30));
    await using here = await openTestServer({ settings: { listen: ["127.0.0.1:0"], tls: files.tls } });

    expect(here.address.protocol).toBe("https:");
    expect((await ask(here.address)).status).toBe(200);
    const before = here.server.certificateEndsAt() ?? 0;
    expect(before).toBeGreaterThan(Date.now());
    await files.write(await authority.issue("two.example.org", 60));
    expect((await here.reload({})).join()).toContain("metrics.tls: new certificate");
    expect(here.server.certificateEndsAt()).toBeGreaterThan(before);
    expect((await ask(here.address)).status).toBe(200);
  });

  test("a file that is missing, and an address that is taken, are named by their settings", async () => {
    await using here = await openTestServer();
    const tls = { certificateFile: "/no/such.crt", keyFile: "/no/such.key" };

    await expect(openTestServer({ settings: { listen: ["127.0.0.1:0"], tls } })).rejects.toMatchObject({
      code: "metrics_certificate",
      hint: expect.stringContaining("metrics.tls"),
    });
    await expect(openTestServer({ settings: { listen: [here.address.origin] } })).rejects.toMatchObject({
      code: "metrics_listen",
      hint: expect.stringContaining("metrics.listen"),
    });
  });

  test.each([
    ["http://0.0.0.0:9252", false],
    ["http://192.0.2.1:9252", false],
    ["http://example.org:9252", false],
    ["http://[::]:9252", false],
    ["http://127.0.0.1.example.org:9252", false],
    ["127.0.0.1:9252", false],
    ["http://127.0.0.1:9252", true],
    ["http://127.1.2.3:9252", true],
    ["http://[::1]:9252", true],
    ["http://localhost:9252", true],
  ])("without a certificate, %s is taken: %s", (listen, isTaken) => {
    expect(MetricsConfig.safeParse({ listen: [listen] }).success).toBe(isTaken);
  });
});
