/** Who may speak to the stand-in, and what an eavesdropper on its host would have heard. */
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MicroVM } from "../../src/vm/flintlock/gen/service_pb.js";
import { aSpec, bareClient, failure } from "../flintlockd/client.ts";
import { startFlintlockd } from "../flintlockd/stand-in.ts";
import { type CertificateAuthority, makeCertificateAuthority } from "../servers/certificates.ts";

const base64 = (text: string) => Buffer.from(text).toString("base64");

describe("the token", () => {
  const missing =
    "16 could not extract token from request header: rpc error: code = Unauthenticated desc = Request unauthenticated with basic";
  const wrong = "16 invalid auth token: failed basic authentication. Check the token supplied";

  test.each([
    [undefined, missing],
    ["Bearer c2VzYW1l", missing],
    [`Basic ${base64("wrong")}`, wrong],
    ["Basic sesame", wrong],
    [`Basic ${base64("user:sesame")}`, wrong],
  ])("%s", async (authorization, answer) => {
    await using host = await startFlintlockd({ token: "sesame" });
    const headers = authorization ? { authorization } : {};

    expect(await failure(bareClient(host.address).listMicroVMs({}, { headers }))).toBe(answer);
  });

  test("base64 of the token alone, with the scheme in any case", async () => {
    await using host = await startFlintlockd({ token: "sesame" });
    const headers = { authorization: `bAsIc ${base64("sesame")}` };

    expect((await bareClient(host.address).listMicroVMs({}, { headers })).microvm).toEqual([]);
  });
});

describe("TLS", () => {
  let ours: CertificateAuthority;
  let theirs: CertificateAuthority;
  beforeAll(async () => {
    ours = await makeCertificateAuthority();
    theirs = await makeCertificateAuthority();
  });
  afterAll(async () => {
    await ours[Symbol.asyncDispose]();
    await theirs[Symbol.asyncDispose]();
  });

  test("1.3 is served, 1.2 gets an alert", async () => {
    await using host = await startFlintlockd({ security: await ours.issue("localhost") });
    const old = bareClient(host.address, { ca: ours.ca, maxVersion: "TLSv1.2" });

    expect((await bareClient(host.address, { ca: ours.ca }).listMicroVMs({})).microvm).toEqual([]);
    expect(await failure(old.listMicroVMs({}))).toContain("tlsv1 alert protocol version");
  });

  test("clients without a certificate and with a foreign one get alerts of their own", async () => {
    const security = { ...(await ours.issue("localhost")), clientCa: ours.ca };
    await using host = await startFlintlockd({ security, token: "sesame" });
    const headers = { authorization: `Basic ${base64("sesame")}` };
    const list = (certificate: object) =>
      bareClient(host.address, { ca: ours.ca, ...certificate }).listMicroVMs({}, { headers });

    expect((await list(await ours.issue("client"))).microvm).toEqual([]);
    expect(await failure(list({}))).toContain("tlsv13 alert certificate required");
    expect(await failure(list(await theirs.issue("client")))).toContain("tlsv1 alert unknown ca");
    await host.restart();
    expect((await list(await ours.issue("client"))).microvm).toEqual([]);
  });

  test("TLS to a plain port, and plain text to a TLS port", async () => {
    await using plain = await startFlintlockd();
    await using secure = await startFlintlockd({ security: await ours.issue("localhost") });

    const toPlain = await failure(bareClient(plain.address, { ca: ours.ca }).listMicroVMs({}));
    const toSecure = await failure(bareClient(secure.address).listMicroVMs({}));

    expect(toPlain).toMatch(/wrong version number/i);
    expect(toSecure).toMatch(/^\d+ /);
    expect((await bareClient(secure.address, { ca: ours.ca }).listMicroVMs({})).microvm).toEqual([]);
  });
});

describe("the wire", () => {
  test("a secret is found wherever it went, in bytes and in metadata, and not where it did not", async () => {
    await using host = await startFlintlockd({ token: "sesame-token" });
    const headers = { authorization: `Basic ${base64("sesame-token")}` };
    const metadata = { firerunner: base64("relay=x\nsecret=machine-secret\nca=aW5uZXItc2VjcmV0\n") };

    await bareClient(host.address).createMicroVM({ microvm: aSpec({ metadata }) }, { headers });

    expect(host.wire.count("create")).toBe(1);
    expect(host.wire.find("runner-token")).toEqual([]);
    expect(host.wire.find("machine-secret").toSorted()).toEqual([
      "bytes in of connection 1",
      "bytes out of connection 1",
      "create: answer.microvm.spec.metadata.firerunner",
      "create: answer.microvm.spec.metadata.firerunner (decoded)",
      "create: request.microvm.metadata.firerunner",
      "create: request.microvm.metadata.firerunner (decoded)",
    ]);
    expect(host.wire.find("inner-secret").length).toBeGreaterThan(0);
    expect(host.wire.find("sesame-token")).toEqual(["create: header authorization"]);
    expect(host.wire.find("localhost:5000/lab/kernel").length).toBeGreaterThan(2);
  });

  test("a call for another path is not served", async () => {
    await using host = await startFlintlockd();
    const elsewhere = createClient(
      MicroVM,
      createGrpcTransport({ baseUrl: `http://${host.address}/elsewhere`, defaultTimeoutMs: 5_000 }),
    );

    expect(await failure(elsewhere.listMicroVMs({}))).toMatch(/^12 /);
    expect(host.wire.calls).toEqual([]);
  });
});
