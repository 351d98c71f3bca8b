import { randomUUID } from "node:crypto";
import { mkdtemp, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Agent, request } from "undici";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { Secret } from "../../src/base/secret.ts";
import { newSigningKey, signDelivery } from "../../src/gitlab/signing-key.ts";
import { createHookVerifier } from "../../src/gitlab/webhook-signature.ts";
import { HttpConfig } from "../../src/http/config.ts";
import { type Door, openDoor } from "../../src/http/door/door.ts";
import { makeCertificateAuthority } from "../servers/certificates.ts";

const key = newSigningKey();
const token = new Secret("a long secret token");
let door: Door | undefined;
let agent: Agent;
/** Lengths of the bodies that were taken; undefined for one that was not kept. */
let taken: (number | undefined)[];
let directory: string;

beforeEach(async () => {
  agent = new Agent({ connect: { rejectUnauthorized: false } });
  taken = [];
  directory = await mkdtemp(join(tmpdir(), "fr-door-"));
});

afterEach(async () => {
  await agent.close();
  await door?.close();
  door = undefined;
  await rm(directory, { recursive: true, force: true });
});

async function open(settings: object = {}, ready = true): Promise<Door> {
  const verifier = createHookVerifier({
    signingKeys: () => [key],
    tokens: () => [token],
    now: systemClock.now,
  });
  door = await openDoor({
    config: HttpConfig.parse({ listen: ["http://127.0.0.1:0"], ...settings }),
    desk: {
      screen: (headers) => verifier.screen(headers),
      async take({ body }) {
        taken.push(body?.length);
        return "taken";
      },
    },
    readiness: () => ({ ready, problems: ready ? [] : ["no image"] }),
    clock: systemClock,
    log: silentLog,
  });
  return door;
}

async function send(path: string, headers: Record<string, string> = {}, body?: Buffer, method = "POST") {
  const url = `${door?.addresses[0]}${path}`;
  const options = body === undefined ? {} : { body };
  const answer = await request(url, { method, headers, dispatcher: agent, ...options });
  return { status: answer.statusCode, headers: answer.headers, text: await answer.body.text() };
}

function signed(body: Buffer, signWith = key): Record<string, string> {
  const [id, timestamp] = [randomUUID(), Math.floor(systemClock.now() / 1_000)];
  const signature = signDelivery(signWith, { id, timestamp, body: body.toString("latin1") });
  return { "webhook-id": id, "webhook-timestamp": String(timestamp), "webhook-signature": signature };
}

const small = Buffer.from('{"object_kind":"build"}');

test("takes what is signed or carries the token, and nothing else", async () => {
  await open();

  expect((await send("/webhook", signed(small), small)).status).toBe(200);
  expect((await send("/webhook", { "x-gitlab-token": token.reveal() }, small)).status).toBe(200);
  expect((await send("/webhook", {}, small)).status).toBe(401);
  expect((await send("/webhook", { "x-gitlab-token": "wrong" }, small)).status).toBe(401);
  const forged = { ...signed(small, newSigningKey()), "x-gitlab-token": token.reveal() };
  expect((await send("/webhook", forged, small)).status).toBe(401);
  expect(taken).toEqual([small.length, small.length]);
});

test("an authentic delivery passes whatever its client has used up before, and however long it is", async () => {
  await open({ unprovenPerMinute: 1, bodyLimit: "1MiB" });
  const long = Buffer.alloc(3 * 1024 ** 2, "x");

  expect((await send("/webhook", {}, small)).status).toBe(401);
  const refused = await send("/webhook", {}, small);
  expect([refused.status, Number(refused.headers["retry-after"]) > 0]).toEqual([429, true]);
  expect((await send("/webhook", signed(small), small)).status).toBe(200);
  expect((await send("/webhook", signed(long), long)).status).toBe(200);
  expect(taken).toEqual([small.length, undefined]);
});

test("listens to the addresses that may deliver, as a trusted proxy names them", async () => {
  await open({ allow: ["192.0.2.0/24"], trustedProxies: ["127.0.0.1"] });
  const from = (hops: string) => ({ ...signed(small), "x-forwarded-for": hops });

  expect((await send("/webhook", signed(small), small)).status).toBe(403);
  expect((await send("/webhook", from("192.0.2.7"), small)).status).toBe(200);
  expect((await send("/webhook", from("192.0.2.7, 198.51.100.1"), small)).status).toBe(403);
});

test("tells whether it lives and what is missing, and nothing of what it is made of", async () => {
  await open({}, false);

  const health = await send("/healthz", {}, undefined, "GET");
  const ready = await send("/readyz", {}, undefined, "GET");

  expect([health.status, ready.status]).toEqual([200, 503]);
  expect(JSON.parse(ready.text)).toEqual({ ready: false, problems: ["no image"] });
  expect(health.headers).toMatchObject({ "x-content-type-options": "nosniff" });
  expect(health.headers["server"]).toBeUndefined();
  expect((await send("/other", {}, undefined, "GET")).status).toBe(404);
  expect((await send("/webhook", {}, undefined, "GET")).status).toBe(405);
});

test("takes a new certificate over without cutting a connection, and keeps the old one when the new is broken", async () => {
  await using authority = await makeCertificateAuthority();
  const tls = { certificateFile: join(directory, "cert.pem"), keyFile: join(directory, "key.pem") };
  const write = async (pair: { cert: string; key: string }, at: number) => {
    await writeFile(tls.certificateFile, pair.cert);
    await writeFile(tls.keyFile, pair.key, { mode: 0o600 });
    // A second apart for file systems that count in seconds.
    for (const file of Object.values(tls)) await utimes(file, at, at);
  };
  await write(await authority.issue("one.example.org"), 1_700_000_000);
  const opened = await open({ listen: ["127.0.0.1:0"], tls });
  const config = HttpConfig.parse({ listen: ["127.0.0.1:0"], tls });
  expect((await send("/webhook", signed(small), small)).status).toBe(200);

  await write(await authority.issue("two.example.org"), 1_700_000_010);
  expect((await opened.reload(config)).join()).toContain("new certificate");
  expect((await send("/webhook", signed(small), small)).status).toBe(200);

  await write({ cert: "broken", key: "broken" }, 1_700_000_020);
  expect((await opened.reload(config)).join()).toContain("the old certificate stays");
  expect((await send("/webhook", signed(small), small)).status).toBe(200);
  expect(opened.counts()).toMatchObject({ accepted: 3, openConnections: 1 });
});
