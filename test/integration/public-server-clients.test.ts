import { expect, test } from "vitest";
import { newSigningKey } from "../../src/gitlab/webhook-signature.ts";
import {
  openTestPublicServer,
  rawRequest,
  secretToken,
  signed,
  type TestPublicServer,
} from "../harness/public-server.ts";
import { openRawSocket, type RawSocket } from "../harness/raw-socket.ts";

const body = '{"object_kind":"build"}';
const token = { "x-gitlab-token": secretToken.reveal() };
/** Late enough for a computer that others use; a limit that did not work would be far later or never. */
const LATE_MS = 10_000;
const MIB = 1024 ** 2;

/** Limits short enough for a test, each another, so that it is told which one has ended a connection. */
const limits = { headersTimeout: "1s", requestTimeout: "2s", idleTimeout: "30s" };

async function openClient(here: TestPublicServer) {
  return await openRawSocket(here.address);
}

/** The public server still takes what is authentic. */
async function expectAlive(here: TestPublicServer): Promise<void> {
  const answer = await here.send("/webhook", signed(Buffer.from(body)), Buffer.from(body));
  expect(answer.status).toBe(200);
}

function whys(here: TestPublicServer): unknown[] {
  return here.warnings.map(({ fields }) => (fields as { why?: string }).why);
}

test("headers that come slowly end with 408 at their limit, however busily they come", async () => {
  await using here = await openTestPublicServer({ settings: limits });
  const slow = await openClient(here);
  slow.write("POST /webhook HTTP/1.1\r\nhost: server\r\n");
  const timer = setInterval(() => slow.write("x-more: a\r\n"), 100);

  const { text, elapsedMs } = await slow.closed;
  clearInterval(timer);

  expect(text).toMatch(/^HTTP\/1\.1 408 /);
  expect(elapsedMs).toBeGreaterThan(900);
  expect(elapsedMs).toBeLessThan(LATE_MS);
  expect(whys(here)).toEqual(["it was too slow"]);
  await expectAlive(here);
});

test.each([
  ["with a token", token],
  ["with a signature still to be proved", signed(Buffer.from(body))],
])(
  "a body that comes slowly, %s, ends at the limit of the request, and nothing of it is kept",
  async (_how, proof) => {
    await using here = await openTestPublicServer({ settings: limits });
    const slow = await openClient(here);
    slow.write(rawRequest(proof, "{", 10_000));
    const timer = setInterval(() => slow.write("x"), 100);

    const { text, elapsedMs } = await slow.closed;
    clearInterval(timer);

    expect(text).toMatch(/^HTTP\/1\.1 408 /);
    expect(elapsedMs).toBeGreaterThan(1_900);
    expect(elapsedMs).toBeLessThan(LATE_MS);
    expect(here.taken).toEqual([]);
    expect(here.server.counts()).toMatchObject({ broken: 1, accepted: 0 });
    expect(whys(here)).toEqual(["it was too slow"]);
    await expectAlive(here);
  },
);

test("a connection that says nothing is closed, before its first request and after it", async () => {
  await using here = await openTestPublicServer({ settings: { ...limits, idleTimeout: "1s" } });
  const [silent, kept] = [await openClient(here), await openClient(here)];
  kept.write(rawRequest(signed(Buffer.from(body)), body));
  await kept.receives(/"taken"/);

  for (const { closed } of [silent, kept]) expect((await closed).elapsedMs).toBeLessThan(LATE_MS);

  await expect.poll(() => here.server.counts()).toMatchObject({ accepted: 1, openConnections: 0 });
});

test("a body shorter than it says is given up when the client leaves, with one line in the log", async () => {
  await using here = await openTestPublicServer();
  const liar = await openClient(here);
  liar.write(rawRequest(token, body, 1_000));
  liar.socket.end();

  await liar.closed;

  await expect.poll(() => here.server.counts()).toMatchObject({ broken: 1, accepted: 0, openConnections: 0 });
  expect(here.taken).toEqual([]);
  expect(here.warnings).toHaveLength(1);
  await expectAlive(here);
});

test("a body longer than it says is taken as far as it says, and what follows is no request", async () => {
  await using here = await openTestPublicServer();
  const liar = await openClient(here);
  liar.write(rawRequest(token, `${body} and more`, body.length));

  const { text } = await liar.closed;

  expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual(["HTTP/1.1 200"]);
  expect(here.taken).toEqual([Buffer.from(body)]);
  expect(here.server.counts()).toMatchObject({ accepted: 1, broken: 1 });
  expect(here.warnings).toHaveLength(1);
});

test("what is asked before something that is no request is answered, and then the connection ends", async () => {
  await using here = await openTestPublicServer();
  const client = await openClient(here);
  client.write("GET /healthz HTTP/1.1\r\nhost: server\r\n\r\nnonsense");

  expect((await client.closed).text).toMatch(/^HTTP\/1\.1 200 .*connection: close.*"alive":true/s);
});

test.each([
  ["a negative length", { "content-length": "-1" }],
  ["a length in words", { "content-length": "many" }],
  ["two lengths", { "content-length": "5\r\ncontent-length: 6" }],
  ["a length beside chunks", { "content-length": "5", "transfer-encoding": "chunked" }],
  ["a length beyond all numbers", { "content-length": "9".repeat(40) }],
  ["another coding than chunks", { "transfer-encoding": "gzip" }],
  ["headers beyond 64 KiB", { "x-long": "a".repeat(80_000) }],
  ["a header that is none", { "x y": "a" }],
])("%s is answered once with 4xx, and the connection ends", async (_what, headers) => {
  await using here = await openTestPublicServer();
  const client = await openClient(here);
  const lines = Object.entries({ host: "server", ...token, ...headers }).map(([k, v]) => `${k}: ${v}\r\n`);
  client.write(`POST /webhook HTTP/1.1\r\n${lines.join("")}\r\n${body}`);

  const { text } = await client.closed;

  expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual([expect.stringMatching(/ 4\d\d$/)]);
  expect(here.taken).toEqual([]);
  await expectAlive(here);
});

test("chunks that lie about their length end the connection, and nothing is kept", async () => {
  await using here = await openTestPublicServer();
  const client = await openClient(here);
  const { "content-length": _, ...rest } = { ...token, "content-length": "" };
  const head = Object.entries(rest).map(([name, value]) => `${name}: ${value}\r\n`);
  client.write(
    `POST /webhook HTTP/1.1\r\nhost: server\r\n${head.join("")}transfer-encoding: chunked\r\n\r\n`,
  );
  client.write("5\r\n{}\r\nzz\r\n");

  const { text } = await client.closed;

  expect(text).toMatch(/^HTTP\/1\.1 400 /);
  expect(here.taken).toEqual([]);
  expect(here.warnings).toHaveLength(1);
});

test("a body beyond 32 MiB, even an authentic one, is answered 413 once and not read on", async () => {
  await using here = await openTestPublicServer();
  const client = await openClient(here);
  client.write(rawRequest(token, "", 40 * MIB));
  for (let mib = 0; mib < 33; mib++) client.write(Buffer.alloc(MIB));

  const text = await client.receives(/\r\n\r\n\{.*\}$/s);

  expect(text).toMatch(/^HTTP\/1\.1 413 .*connection: close/s);
  expect(text).toContain("a body of more than 32 MiB is not read to its end");
  expect(here.taken).toEqual([]);
  await client.closed;
});

test("bodies of 25 MB with a wrong signature are each refused at their end, and leave nothing", async () => {
  await using here = await openTestPublicServer();
  const long = Buffer.alloc(25_000_000, "x");
  const forged = signed(long, newSigningKey());

  const answers = await Promise.all(Array.from({ length: 3 }, () => here.send("/webhook", forged, long)));

  expect(answers.map(({ status }) => status)).toEqual([401, 401, 401]);
  expect(here.taken).toEqual([]);
});

test("a wrong signature does not have its connection kept", async () => {
  await using here = await openTestPublicServer();
  const client = await openClient(here);
  client.write(rawRequest(signed(Buffer.from(body), newSigningKey()), body));

  expect((await client.closed).text).toMatch(/^HTTP\/1\.1 401 .*connection: close/s);
});

test("requests one after the other on a connection are answered in their order", async () => {
  await using here = await openTestPublicServer();
  const client = await openClient(here);
  const bodies = ["{}", "[]", "{ }", "[ ]"].map((text) => Buffer.from(text));
  client.write(bodies.map((each) => rawRequest(signed(each), each)).join(""));

  await client.receives(/(?:"taken".*){4}/s);

  expect(here.taken).toEqual(bodies);
});

test("a client that leaves before its answer does not stop its delivery from being taken", async () => {
  const asked = Promise.withResolvers<void>();
  const durable = Promise.withResolvers<void>();
  await using here = await openTestPublicServer({
    beforeTaken: () => {
      asked.resolve();
      return durable.promise;
    },
  });
  const client = await openClient(here);
  client.write(rawRequest(signed(Buffer.from(body)), body));
  await asked.promise;
  client.socket.destroy();
  durable.resolve();

  await expect.poll(() => here.taken).toEqual([Buffer.from(body)]);
});

test("with a thousand connections that proved nothing the oldest give way, and those that did are spared", async () => {
  await using here = await openTestPublicServer();
  const proven = await openClient(here);
  proven.write(rawRequest(signed(Buffer.from(body)), body));
  await proven.receives(/"taken"/);
  const oldest = await openClient(here);
  const others: RawSocket[] = [];
  for (let index = 0; index < 1_002; index++) others.push(await openClient(here));

  await oldest.closed;

  await expect.poll(() => here.server.counts()).toMatchObject({ displaced: 3, openConnections: 1_001 });
  proven.write(rawRequest(signed(Buffer.from(body)), body));
  await proven.receives(/"taken".*"taken"/s);
  await expectAlive(here);
  for (const { socket } of others) socket.destroy();
});
