import { expect, test } from "vitest";
import { newSigningKey } from "../../src/gitlab/webhook-signature.ts";
import {
  openTestPublicServer,
  secretToken,
  serverConfig,
  signed,
  type TestPublicServerOptions,
} from "../harness/public-server.ts";

const small = Buffer.from('{"object_kind":"build"}');
const open = (settings: object = {}, more: TestPublicServerOptions = {}) =>
  openTestPublicServer({ settings, ...more });

test("takes what is signed or carries the token, and nothing else", async () => {
  await using here = await open();

  expect((await here.send("/webhook", signed(small), small)).status).toBe(200);
  expect((await here.send("/webhook", { "x-gitlab-token": secretToken.reveal() }, small)).status).toBe(200);
  expect((await here.send("/webhook", {}, small)).status).toBe(401);
  expect((await here.send("/webhook", { "x-gitlab-token": "wrong" }, small)).status).toBe(401);
  expect(here.taken).toEqual([small, small]);
});

test("refuses a signature that is there and wrong, even beside the right token", async () => {
  await using here = await open();
  const token = { "x-gitlab-token": secretToken.reveal() };
  const other = Buffer.from('{"object_kind":"pipeline"}');

  expect((await here.send("/webhook", { ...signed(small, newSigningKey()), ...token }, small)).status).toBe(
    401,
  );
  expect((await here.send("/webhook", { ...signed(other), ...token }, small)).status).toBe(401);
  expect((await here.send("/webhook", { "webhook-signature": "v1,AAAA", ...token }, small)).status).toBe(401);
  expect(here.taken).toEqual([]);
});

test("an authentic delivery passes whatever its client has used up before", async () => {
  await using here = await open({ unprovenPerMinute: 1 });

  expect((await here.send("/webhook", {}, small)).status).toBe(401);
  const refused = await here.send("/webhook", {}, small);
  expect([refused.status, Number(refused.headers["retry-after"]) > 0]).toEqual([429, true]);
  expect((await here.send("/webhook", signed(small), small)).status).toBe(200);
  expect(here.taken).toEqual([small]);
});

test("a client may send 60 requests in a minute that prove nothing, and watch its health beside them", async () => {
  await using here = await open();
  const statuses: number[] = [];
  for (let index = 0; index < 62; index++) statuses.push((await here.send("/webhook", {}, small)).status);

  // The limit fills up again while this runs.
  expect(statuses.slice(0, 60)).toEqual(Array(60).fill(401));
  expect(statuses.slice(60)).toContain(429);
  expect((await here.send("/healthz", {}, undefined, "GET")).status).toBe(200);
});

test("counts the IPv6 addresses of one /64 together, and each IPv4 address alone", async () => {
  await using here = await open({ unprovenPerMinute: 2, trustedProxies: ["127.0.0.1"] });
  const from = async (address: string) =>
    (await here.send("/webhook", { "x-forwarded-for": address }, small)).status;

  const first = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:0:ffff::4"];
  expect((await Promise.all(first.map(from))).toSorted()).toEqual([401, 401, 429, 429]);
  expect(await from("2001:db8:0:1::1")).toBe(401);
  expect([await from("192.0.2.1"), await from("192.0.2.1"), await from("192.0.2.1")]).toEqual([
    401, 401, 429,
  ]);
  expect(await from("192.0.2.2")).toBe(401);
});

test("an authentic body beyond 10 MiB is answered 200, and nothing of it is kept", async () => {
  await using here = await open();
  const long = Buffer.alloc(11 * 1024 ** 2, "x");

  expect((await here.send("/webhook", signed(long), long)).status).toBe(200);
  expect(here.taken).toEqual([undefined]);
  expect(here.server.counts()).toMatchObject({ accepted: 1, withoutBody: 1 });
});

test("a long body that proves nothing is answered once, without being read to its end", async () => {
  await using here = await open();
  const long = Buffer.alloc(11 * 1024 ** 2, "x");

  const answer = await here
    .send("/webhook", { "content-length": String(long.length) }, long)
    .catch(() => undefined);

  // A client that does not look for an answer while it writes may miss it.
  expect([401, undefined]).toContain(answer?.status);
  expect(here.taken).toEqual([]);
  expect(here.server.counts().refused).toEqual({ "no valid token or signature": 1 });
});

test("listens to the addresses that may deliver, as a trusted proxy names them", async () => {
  await using here = await open({
    allow: ["192.0.2.0/24", "2001:db8::/32"],
    trustedProxies: ["127.0.0.1", "198.51.100.0/24"],
  });
  const from = async (hops: string) =>
    (await here.send("/webhook", { ...signed(small), "x-forwarded-for": hops }, small)).status;

  expect((await here.send("/webhook", signed(small), small)).status).toBe(403);
  expect(await from("192.0.2.7")).toBe(200);
  expect(await from("::ffff:192.0.2.7")).toBe(200);
  expect(await from("2001:db8::7")).toBe(200);
  expect(await from("203.0.113.9, 192.0.2.7, 198.51.100.1")).toBe(200);
  expect(await from("192.0.2.7, 203.0.113.9")).toBe(403);
  expect(await from("192.0.2.7, nonsense")).toBe(403);
});

test("does not believe X-Forwarded-For of anybody else", async () => {
  await using here = await open({ allow: ["192.0.2.0/24"] });

  const answer = await here.send("/webhook", { ...signed(small), "x-forwarded-for": "192.0.2.7" }, small);

  expect(answer.status).toBe(403);
  expect(here.taken).toEqual([]);
});

test("allows IPv4 clients of a listener for both families", async () => {
  await using here = await open({ listen: ["http://[::]:0"], allow: ["127.0.0.0/8"] });
  const { port } = new URL(here.address);

  const { status } = await here.send("/webhook", signed(small), small);
  const mapped = await fetch(`http://127.0.0.1:${port}/webhook`, {
    method: "POST",
    headers: signed(small),
    body: small,
  });

  expect([status, mapped.status]).toEqual([403, 200]);
});

test("takes a new allow-list over while it runs", async () => {
  await using here = await open();
  await here.server.reload(serverConfig({ allow: ["192.0.2.0/24"] }));

  expect((await here.send("/webhook", signed(small), small)).status).toBe(403);
});

test("tells strangers whether it lives and is ready, and nothing of what it is made of or what is missing", async () => {
  let problems = ["pool secret-group: GitLab at 10.0.0.7 answers 401"];
  await using here = await open({}, { readiness: () => ({ ready: problems.length === 0, problems }) });

  const health = await here.send("/healthz", {}, undefined, "GET");
  const notReady = await here.send("/readyz", {}, undefined, "GET");
  problems = [];
  const ready = await here.send("/readyz", {}, undefined, "GET");

  expect([health.status, notReady.status, ready.status]).toEqual([200, 503, 200]);
  expect(JSON.parse(notReady.text)).toEqual({ ready: false });
  expect((await here.send("/healthz", {}, undefined, "HEAD")).status).toBe(200);
});

test.each([
  ["GET", "/healthz", 200],
  ["GET", "/webhook", 405],
  ["GET", "/other", 404],
  ["POST", "/webhook", 401],
  ["GET", "/%zz", 404],
  ["DELETE", "/healthz", 404],
])("%s %s is answered %i with headers that keep browsers out", async (method, path, status) => {
  await using here = await open();

  const answer = await here.send(path, {}, undefined, method);

  expect(answer.status).toBe(status);
  expect(answer.headers).toMatchObject({
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
  });
  expect(answer.headers["server"] ?? answer.headers["x-powered-by"]).toBeUndefined();
});
