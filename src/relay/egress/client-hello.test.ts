import { connect, createServer, type Server } from "node:net";
import { type ConnectionOptions, connect as connectTls } from "node:tls";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { createHelloReader, type HelloResult, MAX_HELLO_BYTES } from "./egress-name-check.ts";

let servers: Server[] = [];

afterEach(() => {
  for (const server of servers) server.close();
  servers = [];
});

interface Extension {
  readonly type: number;
  readonly content: Buffer;
}

const number = (value: number, bytes: number) => {
  const out = Buffer.alloc(bytes);
  out.writeUIntBE(value, 0, bytes);
  return out;
};
const counted = (content: Buffer, bytes: number) => Buffer.concat([number(content.length, bytes), content]);
const namesExtension = (...names: string[]): Extension => ({
  type: 0,
  content: counted(
    Buffer.concat(
      names.map((name) => Buffer.concat([number(0, 1), counted(Buffer.from(name, "latin1"), 2)])),
    ),
    2,
  ),
});

function hello(
  extensions: readonly Extension[] | undefined,
  { sessionBytes = 32, padding = 0 } = {},
): Buffer {
  const all = [...(extensions ?? []), ...(padding > 0 ? [{ type: 21, content: Buffer.alloc(padding) }] : [])];
  const packed = all.map(({ type, content }) => Buffer.concat([number(type, 2), counted(content, 2)]));
  const body = Buffer.concat([
    number(0x0303, 2),
    Buffer.alloc(32, 7),
    counted(Buffer.alloc(sessionBytes, 9), 1),
    counted(number(0x1301, 2), 2),
    counted(number(0, 1), 1),
    ...(extensions === undefined ? [] : [counted(Buffer.concat(packed), 2)]),
  ]);
  return Buffer.concat([number(1, 1), counted(body, 3)]);
}

/** `message` in records of the given sizes; the last size repeats. */
function records(message: Buffer, sizes: readonly number[] = [16_384]): Buffer {
  const parts: Buffer[] = [];
  for (let at = 0, index = 0; at < message.length; index++) {
    const size = sizes[Math.min(index, sizes.length - 1)] ?? message.length;
    const part = message.subarray(at, at + size);
    parts.push(Buffer.from([22, 3, 1]), counted(part, 2));
    at += part.length;
  }
  return Buffer.concat(parts);
}

function read(sent: Buffer, cuts: readonly number[] = [], isSecond = false): HelloResult {
  const reader = createHelloReader(isSecond);
  const edges = [...new Set([0, ...cuts.map((cut) => cut % (sent.length + 1)), sent.length])].toSorted(
    (a, b) => a - b,
  );
  let result: HelloResult = { kind: "more" };
  for (const [index, edge] of edges.entries()) {
    if (result.kind !== "more") break;
    result = reader.push(sent.subarray(edge, edges[index + 1] ?? sent.length)).result;
  }
  return result;
}

const named = (name: string | undefined) => ({ kind: "hello", name });

describe("a client's hello", () => {
  test.each<[string, Buffer, HelloResult]>([
    [
      "with a name",
      records(hello([namesExtension("gitlab.example.com")])),
      { kind: "hello", name: "gitlab.example.com" },
    ],
    [
      "in capitals, with a dot",
      records(hello([namesExtension("GitLab.Example.com.")])),
      { kind: "hello", name: "gitlab.example.com" },
    ],
    ["without a name", records(hello([])), { kind: "hello", name: undefined }],
    ["without extensions", records(hello(undefined)), { kind: "hello", name: undefined }],
    ["with two names", records(hello([namesExtension("a.example", "b.example")])), { kind: "broken" }],
    [
      "with the extension twice",
      records(hello([namesExtension("a.example"), namesExtension("b.example")])),
      { kind: "broken" },
    ],
    ["with an empty name", records(hello([namesExtension("")])), { kind: "broken" }],
    ["with an empty list", records(hello([{ type: 0, content: number(0, 2) }])), { kind: "broken" }],
    ["with an empty extension", records(hello([{ type: 0, content: Buffer.alloc(0) }])), { kind: "broken" }],
    [
      "with a zero byte in the name",
      records(hello([namesExtension("gitlab.example.com\0.evil.org")])),
      { kind: "broken" },
    ],
    [
      "with a name that is no host's",
      records(
        hello([
          { type: 0, content: counted(Buffer.concat([number(1, 1), counted(Buffer.from("a"), 2)]), 2) },
        ]),
      ),
      { kind: "broken" },
    ],
    [
      "with early data",
      records(hello([namesExtension("a.example"), { type: 42, content: Buffer.alloc(0) }])),
      { kind: "broken" },
    ],
    [
      "with a session that is too long",
      records(hello([], { sessionBytes: 200 }).fill(255, 38, 39)),
      { kind: "broken" },
    ],
    ["larger than any", records(hello([], { padding: MAX_HELLO_BYTES })), { kind: "broken" }],
    ["cut", records(hello([namesExtension("a.example")])).subarray(0, 60), { kind: "more" }],
    ["that is another message", records(Buffer.from([2, 0, 0, 1, 0])), { kind: "broken" }],
    ["in an empty record", Buffer.from([22, 3, 1, 0, 0]), { kind: "broken" }],
    ["in a record of 65535 bytes", Buffer.from([22, 3, 1, 255, 255]), { kind: "broken" }],
    ["that is HTTP", Buffer.from("GET / HTTP/1.1\r\n\r\n"), { kind: "other" }],
    ["that is SSH", Buffer.from("SSH-2.0-x\r\n"), { kind: "other" }],
    ["of SSL 2", Buffer.from([0x80, 0x2e, 1, 3, 1]), { kind: "other" }],
    ["that begins like TLS", Buffer.from([22, 2, 0]), { kind: "other" }],
    [
      "that breaks off for something else",
      Buffer.concat([records(hello([]).subarray(0, 20)), Buffer.from([23, 3, 3, 0, 1, 0])]),
      { kind: "broken" },
    ],
    ["of nothing", Buffer.alloc(0), { kind: "more" }],
  ])("%s", (_what, sent, expected) => {
    expect(read(sent)).toEqual(expected);
  });

  test("says the same however it is cut into records and into pieces on the way", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 20 }),
        fc.array(fc.nat(40_000), { maxLength: 20 }),
        fc.integer({ min: 0, max: 1_200 }),
        fc.constantFrom("gitlab.example.com", "x", undefined),
        (sizes, cuts, padding, name) => {
          const message = hello(name === undefined ? [] : [namesExtension(name)], { padding });

          expect(read(records(message, sizes), cuts)).toEqual(named(name));
        },
      ),
    );
  });

  test("never throws, never answers a name that was not sent, whatever comes", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 400 }),
        fc.nat(160),
        fc.uint8Array({ maxLength: 6 }),
        (noise, at, change) => {
          const sent = records(hello([namesExtension("gitlab.example.com")]));
          const place = Math.min(at, sent.length);
          sent.set(change.subarray(0, sent.length - place), place);
          const changed = read(sent);

          expect(["more", "other", "broken", "hello"]).toContain(read(Buffer.from(noise)).kind);
          if (changed.kind === "hello" && changed.name !== undefined)
            expect(sent.toString("latin1").toLowerCase()).toContain(changed.name);
        },
      ),
      { numRuns: 2_000 },
    );
  });

  test("is given up after twice its greatest length, however little a record brings", () => {
    const reader = createHelloReader();
    const message = hello([], { padding: 16_000 });
    const sent = records(message, [1]);
    const { result, used } = reader.push(sent);

    expect(result).toEqual({ kind: "broken" });
    expect(used).toBeLessThanOrEqual(2 * MAX_HELLO_BYTES + 1);
  });

  test.each<[string, Buffer, HelloResult]>([
    ["another name", records(hello([namesExtension("b.example")])), { kind: "hello", name: "b.example" }],
    [
      "another name behind a change of ciphers",
      Buffer.concat([Buffer.from([20, 3, 3, 0, 1, 1]), records(hello([namesExtension("b.example")]), [1])]),
      { kind: "hello", name: "b.example" },
    ],
    ["a key", records(Buffer.from([16, 0, 0, 33])), { kind: "other" }],
    ["something encrypted that begins alike", records(Buffer.from([1, 0, 0, 9, 77, 3])), { kind: "other" }],
    ["a hello larger than we read", records(hello([], { padding: 60_000 })), { kind: "broken" }],
    ["data", Buffer.from([23, 3, 3, 0, 1, 0]), { kind: "other" }],
  ])("may be followed by %s", (_what, sent, expected) => {
    expect(read(sent, [], true)).toEqual(expected);
  });

  test.each(["TLSv1.2", "TLSv1.3"] as const)("of a real client with %s is read", async (version) => {
    const sent = await firstFlight({
      servername: "gitlab.example.com",
      minVersion: version,
      maxVersion: version,
    });
    const unnamed = await firstFlight({ minVersion: version, maxVersion: version });

    expect(read(sent)).toEqual(named("gitlab.example.com"));
    expect(read(unnamed)).toEqual(named(undefined));
  });
});

async function firstFlight(options: ConnectionOptions): Promise<Buffer> {
  const first = Promise.withResolvers<Buffer>();
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", (data) => {
      first.resolve(data);
      socket.destroy();
    });
  });
  servers.push(server);
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const address = server.address();
  const socket = connect({
    host: "127.0.0.1",
    port: typeof address === "object" && address ? address.port : 0,
  });
  connectTls({ ...options, socket, rejectUnauthorized: false }).on("error", () => {});
  return await first.promise;
}
