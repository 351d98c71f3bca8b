import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { makeCertificateAuthority } from "../../test/servers/certificates.ts";
import { type S3Server, startS3Server } from "../../test/servers/s3-server.ts";
import { systemClock } from "../base/clock.ts";
import { directRoutes } from "../base/proxy/routes.ts";
import { Secret } from "../base/secret.ts";
import { type CacheId, digestOfKey } from "./rights.ts";
import { openS3Storage } from "./s3-storage.ts";
import type { CacheStorage } from "./storage.ts";

let server: S3Server;
let storage: CacheStorage;
const signal = AbortSignal.timeout(60_000);

beforeEach(async () => {
  server = await startS3Server();
  storage = storageAt(server);
});
afterEach(async () => {
  await storage.close();
  await server[Symbol.asyncDispose]();
});

interface Wrong {
  readonly secretKey?: string;
  readonly bucket?: string;
  readonly ca?: string;
}

function storageAt({ url, accessKey, secretKey, bucket, region }: S3Server, wrong: Wrong = {}): CacheStorage {
  return openS3Storage({
    settings: { endpoint: url, bucket: wrong.bucket ?? bucket, region },
    access: {
      accessKey: new Secret(accessKey),
      secretKey: new Secret(wrong.secretKey ?? secretKey),
      ca: wrong.ca,
    },
    ...{ prefix: "fr/caches", site: "gitlab.example.com", proxies: directRoutes, clock: systemClock },
  });
}

function idOf(key: string, projectId = 7): CacheId {
  return { projectId, realm: "protected", digest: digestOfKey(key) };
}

async function put(key: string, text: string, projectId = 7): Promise<void> {
  const bytes = Buffer.from(text);
  await storage.store(
    idOf(key, projectId),
    { key, bytes: bytes.length, body: Readable.from([bytes]) },
    signal,
  );
}

async function content(key: string): Promise<string | undefined> {
  const object = await storage.find(idOf(key), signal);
  const body = object && (await storage.read(object, { first: 0, last: object.bytes - 1 }, signal));
  return body && (await buffer(body)).toString("utf8");
}

describe("caches on an S3 server that checks each signature", () => {
  test("are stored, found with their key, read whole and in parts, and removed", async () => {
    const key = "é k/ü+%-protected";
    await put(key, "0123456789");
    await put("empty", "");

    expect([...server.objects.keys()][0]).toBe(
      `fr/caches/gitlab.example.com/project/7/protected/${digestOfKey(key)}`,
    );
    expect([await content(key), await content("empty"), await content("none")]).toEqual([
      "0123456789",
      "",
      undefined,
    ]);
    const object = await storage.find(idOf(key), signal);
    expect(object).toMatchObject({ key, bytes: 10 });
    if (!object) throw new Error("it is not there");
    const part = await storage.read(object, { first: 3, last: 5 }, signal);
    expect(part && (await buffer(part)).toString()).toBe("345");
    await storage.remove({ ...object, usedAt: undefined }, signal);
    expect(server.objects.size).toBe(1);
  });

  test("that were replaced since they were found are not mixed with what came after", async () => {
    await put("deps", "first");
    const object = await storage.find(idOf("deps"), signal);
    await put("deps", "second one");

    expect(object && (await storage.read(object, { first: 0, last: 4 }, signal))).toBeUndefined();
  });

  test("are listed page by page, with what is not ours left out", async () => {
    for (const key of ["a", "b", "c", "d", "e"]) await put(key, key, key === "e" ? 8 : 7);
    const other = { body: Buffer.from("x"), metadata: {}, storedAt: new Date() };
    server.objects.set("fr/caches/gitlab.example.com/project/7/protected/not-ours", other);
    server.objects.set(`fr/caches/gitlab.example.org/project/7/protected/${digestOfKey("a")}`, other);

    const all = await storage.list({}, signal);
    const ofOne = await storage.list({ projectId: 8 }, signal);
    const old = await storage.list({ unusedSince: Date.now() - 60_000 }, signal);

    expect(all.map(({ key }) => key).toSorted()).toEqual(["a", "b", "c", "d", "e"]);
    expect([ofOne.map(({ key }) => key), old]).toEqual([["e"], []]);
  });

  test.each([
    ["the wrong secret", { secretKey: "other" }, /SignatureDoesNotMatch/],
    ["a bucket that is not there", { bucket: "elsewhere" }, /NoSuchBucket/],
  ])("with %s fail with the server's own words", async (_, wrong, words) => {
    const mistaken = storageAt(server, wrong);
    const body = Readable.from([Buffer.from("x")]);

    await expect(mistaken.store(idOf("deps"), { key: "deps", bytes: 1, body }, signal)).rejects.toMatchObject(
      { code: "cache_server_refused", message: expect.stringMatching(words) },
    );
    await mistaken.close();
  });

  test("fail in words when the server is busy, silent, sends another part, or is gone", async () => {
    await put("deps", "0123456789");
    const object = await storage.find(idOf("deps"), signal);
    if (!object) throw new Error("it is not there");
    const reading = () => storage.read(object, { first: 0, last: 3 }, signal);

    server.faults.push((_, response) => void response.writeHead(503).end("<Code>SlowDown</Code>"));
    await expect(reading()).rejects.toMatchObject({
      ...{ code: "cache_server_unavailable", retryable: true },
      message: expect.stringContaining("503 (SlowDown)"),
    });
    server.faults.push((request) => void request.socket.destroy());
    await expect(reading()).rejects.toMatchObject({ code: "cache_server_unavailable" });
    server.faults.push(
      (_, response) => void response.writeHead(200, { "content-length": 10 }).end("0123456789"),
    );
    await expect(reading()).rejects.toMatchObject({ code: "cache_server_unavailable" });
    server.faults.push((_, response) => {
      response.writeHead(403);
      const more = () => void (response.destroyed || response.write("<Code>".repeat(10_000), more));
      more();
    });
    await expect(reading()).rejects.toMatchObject({ code: "cache_server_refused" });
    await server[Symbol.asyncDispose]();
    await expect(reading()).rejects.toMatchObject({ code: "cache_server_unavailable" });
    server = await startS3Server();
  });

  test("go by TLS to a server whose authority is named, and to no other", async () => {
    await using authority = await makeCertificateAuthority();
    await using secure = await startS3Server(await authority.issue("127.0.0.1"));
    const trusting = storageAt(secure, { ca: authority.ca });
    const distrusting = storageAt(secure);

    expect(await trusting.find(idOf("none"), signal)).toBeUndefined();
    await expect(distrusting.find(idOf("none"), signal)).rejects.toMatchObject({
      code: "cache_server_unavailable",
    });
    await Promise.all([trusting.close(), distrusting.close()]);
  });
});
