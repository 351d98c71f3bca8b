import { readFile } from "node:fs/promises";
import { connect, type TLSSocket } from "node:tls";
import { afterAll, beforeAll, expect, test } from "vitest";
import { temporaryDirectory } from "../builders/temporary-directory.ts";
import {
  certificateFiles,
  openTestPublicServer,
  rawRequest,
  serverConfig,
  signed,
} from "../harness/public-server.ts";
import { openRawSocket } from "../harness/raw-socket.ts";
import { type CertificateAuthority, makeCertificateAuthority } from "../servers/certificates.ts";

const body = '{"object_kind":"build"}';
const delivery = () => rawRequest(signed(Buffer.from(body)), body);
/** What OpenSSL needs to offer TLS 1.1 at all. */
const weak = { ciphers: "DEFAULT@SECLEVEL=0", minVersion: "TLSv1" } as const;
let authority: CertificateAuthority;

beforeAll(async () => {
  authority = await makeCertificateAuthority();
});
afterAll(() => authority[Symbol.asyncDispose]());

/** Valid for long enough not to be warned of. */
const issue = (host: string) => authority.issue(host, 30);

/** A server with TLS on one listener, whose certificate names `one.example.org`. */
async function openTlsServer(settings: object = {}) {
  const directory = await temporaryDirectory();
  const files = certificateFiles(directory.path);
  await files.write(await issue("one.example.org"));
  const all = { listen: ["127.0.0.1:0"], tls: files.tls, ...settings };
  const here = await openTestPublicServer({ settings: all });
  return {
    ...{ here, files },
    reload: async () => (await here.server.reload(serverConfig(all))).join(),
    async [Symbol.asyncDispose]() {
      await here[Symbol.asyncDispose]();
      await directory[Symbol.asyncDispose]();
    },
  };
}

/** Which host the certificate names that a new connection gets, and by which protocol; or the error's code. */
async function handshake(address: string, options: object = {}): Promise<string> {
  const { hostname: host, port } = new URL(address);
  const socket = connect({ host, port: Number(port), rejectUnauthorized: false, ...options });
  return await new Promise((resolve) => {
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(String(error.code)));
    socket.once("secureConnect", () => {
      resolve(`${socket.getPeerCertificate().subject.CN} ${socket.getProtocol()}`);
      socket.destroy();
    });
  });
}

test("a new certificate is for new connections, and those that are open go on", async () => {
  await using tls = await openTlsServer();
  const { address } = tls.here;
  const old = await openRawSocket(address);
  old.write(delivery());
  await old.receives(/"taken"/);

  await tls.files.write(await issue("two.example.org"));
  expect(await tls.reload()).toContain("new certificate");

  expect(await handshake(address)).toBe("two.example.org TLSv1.3");
  expect((old.socket as TLSSocket).getPeerCertificate().subject.CN).toBe("one.example.org");
  old.write(delivery());
  await old.receives(/"taken".*"taken"/s);
  expect(tls.here.server.counts()).toMatchObject({ accepted: 2, openConnections: 1 });
});

test("a change of the files is seen without anybody's word, within its interval", {
  timeout: 60_000,
}, async () => {
  await using tls = await openTlsServer();
  await tls.files.write(await issue("two.example.org"));

  await expect
    .poll(() => handshake(tls.here.address), { timeout: 40_000, interval: 500 })
    .toBe("two.example.org TLSv1.3");
});

test.each([
  ["no certificate", async () => ({ cert: "broken", key: "broken" }), "no PEM file"],
  [
    "another's key",
    async () => ({
      cert: (await issue("two.example.org")).cert,
      key: (await issue("three.example.org")).key,
    }),
    "does not belong to the certificate",
  ],
  [
    "half a certificate",
    async () => {
      const { cert, key } = await issue("two.example.org");
      return { cert: cert.slice(0, cert.length / 2), key };
    },
    "is damaged",
  ],
])("files that hold %s leave the old certificate in use, and the log says why", async (_what, make, why) => {
  await using tls = await openTlsServer();

  await tls.files.write(await make());

  expect(await tls.reload()).toMatch(/the old certificate stays/);
  expect(
    tls.here.warnings.map(({ fields, message }) => `${message}: ${JSON.stringify(fields)}`).join(),
  ).toMatch(new RegExp(`the new certificate cannot be used; the old one stays: .*${why}`));
  expect(await handshake(tls.here.address)).toBe("one.example.org TLSv1.3");

  // And the next good pair is taken.
  await tls.files.write(await issue("two.example.org"));
  expect(await tls.reload()).toContain("new certificate");
  expect(await handshake(tls.here.address)).toBe("two.example.org TLSv1.3");
});

test("TLS 1.2 is spoken, 1.1 is not, before and after a new certificate", async () => {
  await using tls = await openTlsServer();
  const { address } = tls.here;

  for (const name of ["one.example.org", "two.example.org"]) {
    expect(await handshake(address, { ...weak, maxVersion: "TLSv1.1" })).toBe(
      "ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION",
    );
    expect(await handshake(address, { ...weak, maxVersion: "TLSv1.2" })).toBe(`${name} TLSv1.2`);
    await tls.files.write(await issue("two.example.org"));
    await tls.reload();
  }
  const words = tls.here.warnings.map(({ fields }) => JSON.stringify(fields)).join();
  expect(words).toContain("it offered no TLS version from 1.2 on");
  expect(tls.here.server.counts().broken).toBe(2);
});

test("whoever never finishes the handshake is cut off", async () => {
  await using tls = await openTlsServer({ headersTimeout: "500ms" });
  const { closed } = await openRawSocket(tls.here.address.replace("https:", "http:"));

  const { elapsedMs, text } = await closed;
  expect([elapsedMs > 400, text]).toEqual([true, ""]);
  await expect.poll(() => tls.here.server.counts()).toMatchObject({ broken: 1, openConnections: 0 });
  expect(tls.here.warnings).toMatchObject([{ fields: { why: "it never finished the TLS handshake" } }]);
});

test("whoever connects and leaves, as probes of ports do, is no news", async () => {
  await using tls = await openTlsServer();
  const probe = await openRawSocket(tls.here.address.replace("https:", "http:"));
  probe.socket.destroy();
  await handshake(tls.here.address);

  await expect.poll(() => tls.here.server.counts()).toMatchObject({ broken: 0, openConnections: 0 });
  expect(tls.here.warnings).toEqual([]);
});

test("plain HTTP to an address that speaks TLS is cut off with a line in the log", async () => {
  await using tls = await openTlsServer();
  const plain = await openRawSocket(tls.here.address.replace("https:", "http:"));
  plain.write(delivery());

  await plain.closed;
  expect(JSON.stringify(tls.here.warnings)).toContain("it spoke plain HTTP to an address that speaks TLS");
  expect(tls.here.taken).toEqual([]);
});

test("one server speaks TLS and plain HTTP on several addresses, each where it is told to", async () => {
  await using tls = await openTlsServer({
    listen: ["127.0.0.1:0", "http://127.0.0.1:0", "http://[::1]:0", "localhost:0"],
  });
  const { addresses } = tls.here.server;
  expect(addresses.map((each) => new URL(each).protocol).slice(0, 4)).toEqual([
    "https:",
    "http:",
    "http:",
    "https:",
  ]);

  for (const address of addresses) {
    const client = await openRawSocket(address);
    client.write(delivery());
    await client.receives(/^HTTP\/1\.1 200 OK.*"taken"/s);
    client.socket.destroy();
  }
  expect(tls.here.server.counts().accepted).toBe(addresses.length);
});

test("the key stays in its file: neither log nor answers show any of it", async () => {
  await using tls = await openTlsServer();
  const key = await readFile(tls.files.tls.keyFile, "utf8");
  await tls.files.write({ cert: key, key });

  const words = (await tls.reload()) + JSON.stringify(tls.here.warnings);

  expect(words).toContain("holds a private key and no certificate");
  for (const line of key.split("\n").filter((each) => each.length > 20 && !each.includes("-----")))
    expect(words).not.toContain(line);
});
