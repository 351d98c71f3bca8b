import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer as createHttp1Server } from "node:http";
import { createSecureServer, createServer, type Http2SecureServer, type Http2Server } from "node:http2";
import { createServer as createHttps1Server } from "node:https";
import { type AddressInfo, createServer as createSocketServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Code, ConnectError } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { aFlintlockHost } from "../../../test/builders/flintlock-host.ts";
import { type CertificateAuthority, makeCertificateAuthority } from "../../../test/servers/certificates.ts";
import { systemClock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import { Secret } from "../../base/secret.ts";
import { createFlintlockClient, type FlintlockClient } from "./client.ts";
import type { FlintlockHost, HostTls } from "./config.ts";
import { FlintlockError } from "./errors.ts";
import { MicroVM } from "./gen/service_pb.js";

type AnyServer = Server | Http2Server | Http2SecureServer;
interface Keys {
  readonly key: string;
  readonly cert: string;
}

const openssl = "openssl";
const TOKEN = "t0ken-of-metal";
const signal = new AbortController().signal;
const notAgain = () => Promise.reject(new Error("not reached"));

let authority: CertificateAuthority;
let foreign: CertificateAuthority;
let keys: Keys;
let ours: Keys;
let strange: Keys;
let directory: string;
const closers: (() => void)[] = [];

beforeAll(async () => {
  [authority, foreign] = [await makeCertificateAuthority(), await makeCertificateAuthority()];
  keys = await authority.issue("localhost");
  ours = await authority.issue("firerunner");
  strange = await foreign.issue("firerunner");
  directory = await mkdtemp(join(tmpdir(), "fr-flintlock-"));
});

afterEach(() => {
  for (const close of closers.splice(0)) close();
});

afterAll(async () => {
  await authority[Symbol.asyncDispose]();
  await foreign[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

/** Listens on a free port of the loopback, until the end of the test. */
async function listen(server: AnyServer, port = 0): Promise<string> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => sockets.add(socket.on("error", () => {})));
  server.on("sessionError", () => {}).on("tlsClientError", () => {});
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  closers.push(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** The calls of flintlockd that these tests need, behind its own way of asking for a token. */
function flintlockd(token?: string, list: () => Promise<object> = async () => ({ microvm: [] })) {
  return connectNodeAdapter({
    routes: (router) =>
      router.service(MicroVM, {
        async listMicroVMs(_, { requestHeader }) {
          if (token !== undefined) checkToken(token, requestHeader.get("authorization"));
          return await list();
        },
        createMicroVM: notAgain,
        deleteMicroVM: notAgain,
        getMicroVM: notAgain,
      }),
  });
}

function checkToken(token: string, header: string | null): void {
  const [, sent] = /^Basic (.*)$/i.exec(header ?? "") ?? [];
  if (sent === undefined)
    throw new ConnectError("could not extract token from request header: rpc error", Code.Unauthenticated);
  if (Buffer.from(sent, "base64").toString() === token) return;
  const words = "invalid auth token: failed basic authentication. Check the token supplied";
  throw new ConnectError(words, Code.Unauthenticated);
}

/** OpenSSL's own server, which sends the alerts of TLS that Go's does too. */
async function opensslServer(...options: string[]): Promise<string> {
  const files = { "key.pem": keys.key, "cert.pem": keys.cert, "ca.pem": authority.ca };
  for (const [name, text] of Object.entries(files)) await writeFile(join(directory, name), text);
  const about = ["-key", "key.pem", "-cert", "cert.pem", "-CAfile", "ca.pem", "-alpn", "h2"];
  const server: ChildProcess = spawn(openssl, ["s_server", "-accept", "127.0.0.1:0", ...about, ...options], {
    cwd: directory,
    stdio: ["pipe", "pipe", "ignore"],
  });
  closers.push(() => server.kill("SIGKILL"));
  return await new Promise((resolve, reject) => {
    server.once("exit", () => reject(new Error("openssl did not listen")));
    server.stdout?.on("data", (text) => {
      const [, address] = /ACCEPT (127\.0\.0\.1:\d+)/.exec(String(text)) ?? [];
      if (address) resolve(address);
    });
  });
}

function aTls(change: Partial<HostTls> = {}): HostTls {
  const none = { certificate: undefined, key: undefined };
  return { ca: authority.ca, ...none, serverName: "localhost", ...change };
}

const withKeys = ({ key, cert }: Keys): HostTls => aTls({ certificate: cert, key: new Secret(key) });

function openClient(change: Partial<FlintlockHost>, callTimeoutMs = 10_000): FlintlockClient {
  const client = createFlintlockClient({ host: aFlintlockHost(change), clock: systemClock, callTimeoutMs });
  closers.push(() => client.close());
  return client;
}

async function failure(change: Partial<FlintlockHost>, callTimeoutMs?: number): Promise<FlintlockError> {
  const error = await openClient(change, callTimeoutMs)
    .list({ namespace: "fr-test" }, signal)
    .then(
      () => new Error("it worked"),
      (error: unknown) => error,
    );
  if (error instanceof FlintlockError) return error;
  throw error;
}

const tlsServer = (options: object = {}, token?: string) =>
  listen(createSecureServer({ ...keys, minVersion: "TLSv1.3", ...options }, flintlockd(token)));
const plainServer = (token?: string) => listen(createServer(flintlockd(token)));

describe("a host that can be reached", () => {
  test.each([
    ["plaintext", async () => ({ addresses: [await plainServer()] })],
    [
      "plaintext and a token",
      async () => ({ addresses: [await plainServer(TOKEN)], token: new Secret(TOKEN) }),
    ],
    ["TLS", async () => ({ addresses: [await tlsServer()], tls: aTls() })],
    [
      "mutual TLS and a token",
      async () => ({
        addresses: [await tlsServer({ requestCert: true, ca: authority.ca }, TOKEN)],
        tls: withKeys(ours),
        token: new Secret(TOKEN),
      }),
    ],
  ])("answers over %s", async (_, change) => {
    const client = openClient(await change());

    expect(await client.list({ namespace: "fr-test" }, signal)).toEqual([]);
    expect(await client.list({ namespace: "fr-test" }, signal)).toEqual([]);
    expect(client.reconnectedAt()).toBeUndefined();
  });
});

/** Each failure: what is there and what is configured, then the code and the words. */
const failures: readonly [string, () => Promise<Partial<FlintlockHost>>, string, RegExp][] = [
  [
    "a certificate of an unknown authority",
    async () => ({ addresses: [await tlsServer()], tls: aTls({ ca: foreign.ca }) }),
    "vm_host_certificate",
    /authority that is not trusted/,
  ],
  [
    "a certificate that the system does not know",
    async () => ({ addresses: [await tlsServer()], tls: aTls({ ca: undefined }) }),
    "vm_host_certificate",
    /authority that is not trusted/,
  ],
  [
    "an expired certificate",
    async () => ({ addresses: [await tlsServer(await authority.issue("localhost", -1))], tls: aTls() }),
    "vm_host_certificate",
    /has expired/,
  ],
  [
    "a certificate for another name",
    async () => ({ addresses: [await tlsServer(await authority.issue("metal-2"))], tls: aTls() }),
    "vm_host_certificate",
    /another name/,
  ],
  [
    "a missing client certificate",
    async () => ({
      addresses: [await opensslServer("-Verify", "1", "-verify_return_error", "-tls1_3")],
      tls: aTls(),
    }),
    "vm_host_credentials",
    /asks for a client certificate, and none is configured/,
  ],
  [
    "a client certificate of an unknown authority",
    async () => ({
      addresses: [await opensslServer("-Verify", "1", "-verify_return_error", "-tls1_3")],
      tls: withKeys(strange),
    }),
    "vm_host_credentials",
    /does not accept our client certificate/,
  ],
  [
    "a client certificate that the host dislikes without a word",
    async () => ({
      addresses: [await tlsServer({ requestCert: true, ca: authority.ca })],
      tls: withKeys(strange),
    }),
    "vm_host_credentials",
    /may not know our client certificate/,
  ],
  [
    "a key that does not belong to the certificate",
    async () => ({ addresses: [await tlsServer()], tls: withKeys({ ...ours, key: strange.key }) }),
    "vm_host_credentials",
    /our own certificate, its key or/,
  ],
  [
    "a missing token",
    async () => ({ addresses: [await plainServer(TOKEN)] }),
    "vm_host_credentials",
    /asks for a token, and none is configured/,
  ],
  [
    "a wrong token",
    async () => ({ addresses: [await plainServer("another")], token: new Secret(TOKEN) }),
    "vm_host_credentials",
    /refuses our token/,
  ],
  [
    "plaintext to a TLS port",
    async () => ({ addresses: [await tlsServer()] }),
    "vm_host_protocol",
    /speaks TLS, and “plaintext” is configured/,
  ],
  [
    "TLS to a plaintext port",
    async () => ({ addresses: [await plainServer()], tls: aTls() }),
    "vm_host_protocol",
    /does not speak TLS/,
  ],
  [
    "a host without TLS 1.3",
    async () => ({ addresses: [await opensslServer("-tls1_2")], tls: aTls() }),
    "vm_host_protocol",
    /does not speak TLS 1\.3/,
  ],
  [
    "a web server",
    async () => ({ addresses: [await listen(createHttp1Server((_, answer) => answer.end("hello")))] }),
    "vm_host_protocol",
    /web server of HTTP\/1/,
  ],
  [
    "a web server with TLS",
    async () => ({ addresses: [await listen(createHttps1Server({ ...keys }))], tls: aTls() }),
    "vm_host_protocol",
    /TLS but not HTTP\/2/,
  ],
  [
    "something that speaks first",
    async () => ({ addresses: [await listen(createSocketServer((socket) => socket.end("SSH-2.0-x\r\n")))] }),
    "vm_host_protocol",
    /does not speak HTTP\/2/,
  ],
  [
    "a web server of HTTP/2",
    async () => ({ addresses: [await listen(createServer((_, answer) => answer.end("<p>hello")))] }),
    "vm_host_protocol",
    /is not flintlockd/,
  ],
  [
    "another gRPC service",
    async () => ({ addresses: [await listen(createServer(connectNodeAdapter({ routes: () => {} })))] }),
    "vm_host_protocol",
    /is not flintlockd/,
  ],
  [
    "a port that nobody listens at",
    async () => ({ addresses: [await portOfNobody()] }),
    "vm_host_unreachable",
    /nobody listens/,
  ],
  [
    "a name that does not resolve",
    async () => ({ addresses: ["metal-1.invalid:9090"] }),
    "vm_host_unreachable",
    /does not resolve|name server does not answer/,
  ],
  [
    "a host that closes every connection",
    async () => ({ addresses: [await listen(createSocketServer((socket) => socket.destroy()))] }),
    "vm_host_unreachable",
    /connection ended before the answer/,
  ],
];

async function portOfNobody(): Promise<string> {
  const server = createSocketServer();
  const address = await listen(server);
  await new Promise((resolve) => server.close(resolve));
  return address;
}

describe("a host that cannot be used", () => {
  test.each(failures)("%s has its own message", async (_, change, code, words) => {
    const error = await failure(await change());

    expect(error.message).toMatch(words);
    expect(error).toMatchObject({ code, about: "host", retryable: true });
    expect(error.message).toMatch(/^the host metal-1 \(.+:\d+\), listing its machines: /);
    expect(error.hint).toMatch(/.{20}/);
    expect(JSON.stringify([describeError(error), error.hint, error.stack])).not.toContain(TOKEN);
  });

  test("an address of numbers is held against the certificate's own, and Node has nothing to warn of", async () => {
    const warnings: Error[] = [];
    const hear = (warning: Error) => void warnings.push(warning);
    process.on("warning", hear);
    closers.push(() => process.off("warning", hear));
    const tls = aTls({ serverName: undefined });
    const good = openClient({ addresses: [await tlsServer(await authority.issue("127.0.0.1"))], tls });

    expect(await good.list({ namespace: "fr-test" }, signal)).toEqual([]);
    expect((await failure({ addresses: [await tlsServer()], tls })).message).toMatch(/another name/);
    expect(warnings).toEqual([]);
  });

  test("no two kinds of failure share their words", () => {
    const words = failures.map(([, , , each]) => each.source);

    // An authority that is unknown is one failure, whether a file or the system should have named it.
    expect(new Set(words).size).toBe(words.length - 2);
  });

  test.each([
    ["in plaintext", undefined],
    ["with TLS", true],
  ])(
    "a host that says nothing %s is given up at the deadline, and nothing is left open",
    async (_, secure) => {
      const silent = createSocketServer((socket) => socket.resume());
      const addresses = [await listen(silent)];
      const tls = secure ? aTls() : undefined;

      const error = await failure({ addresses, tls }, 300);

      expect(error).toMatchObject({ code: "vm_host_timeout", about: "host" });
      await expect.poll(() => connections(silent), { timeout: 5_000 }).toBe(0);
    },
  );
});

function connections(server: Server): Promise<number> {
  return new Promise((resolve) => server.getConnections((_, count) => resolve(count)));
}

describe("a host that comes and goes", () => {
  test("is found again after a restart, and it is known that it was away", async () => {
    const first = createServer(flintlockd());
    const address = await listen(first);
    const client = openClient({ addresses: [address] });
    await client.list({ namespace: "" }, signal);
    const [closeFirst] = closers.splice(0, 1);
    closeFirst?.();
    await expect(client.list({ namespace: "" }, signal)).rejects.toMatchObject({
      code: "vm_host_unreachable",
    });
    await listen(createServer(flintlockd()), Number(address.split(":")[1]));

    expect(await client.list({ namespace: "" }, signal)).toEqual([]);
    expect(client.reconnectedAt()).toBeGreaterThan(0);
  });

  test("is asked at its other address, and stays there", async () => {
    let asked = 0;
    const good = createServer(
      flintlockd(undefined, async () => {
        asked += 1;
        return {};
      }),
    );
    const refused = createSocketServer((socket) => socket.destroy());
    let knocks = 0;
    refused.on("connection", () => {
      knocks += 1;
    });
    const client = openClient({ addresses: [await listen(refused), await listen(good)] });

    for (let turn = 0; turn < 3; turn++) await client.list({ namespace: "" }, signal);

    expect(asked).toBe(3);
    // One for the first call, and two to see what listens there.
    expect(knocks).toBeLessThanOrEqual(3);
  });

  test("a call ends when its caller does not want it any more", async () => {
    const address = await listen(createServer(flintlockd(undefined, () => new Promise(() => {}))));
    const stop = new AbortController();
    const listing = openClient({ addresses: [address] }).list({ namespace: "" }, stop.signal);
    setTimeout(() => stop.abort(new Error("enough")), 50);

    await expect(listing).rejects.toThrow("enough");
  });
});
