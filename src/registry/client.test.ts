import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { afterEach, describe, expect, test } from "vitest";
import { type Handler, startHttpServer, type TestServer } from "../../test/servers/http-server.ts";
import { Secret } from "../base/secret.ts";
import { createRegistryClient, type RegistryClient } from "./client.ts";
import type { Credentials } from "./credentials.ts";
import { createTransport } from "./session.ts";

const open: AsyncDisposable[] = [];
afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each[Symbol.asyncDispose]();
});

const password: Credentials = { kind: "password", username: "me", password: new Secret("secret-word") };
const pauses: number[] = [];
const clock = { now: () => 0, sleep: async (ms: number) => void pauses.push(ms) };

async function clientOf(
  handle: Handler,
  credentials?: Credentials,
): Promise<{ client: RegistryClient; server: TestServer }> {
  pauses.length = 0;
  const server = await startHttpServer(handle);
  const transport = createTransport({ registry: `127.0.0.1:${server.port}` });
  const client = createRegistryClient({
    transport,
    credentials: async () => credentials,
    clock,
    chunkBytes: 1000,
  });
  open.push(server, { [Symbol.asyncDispose]: client.close });
  return { client, server };
}

function blobOf(bytes: Buffer) {
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  return {
    digest,
    bytes: bytes.length,
    read: (start: number, end: number) => Readable.from([bytes.subarray(start, end)]),
  };
}

const linesOf = (server: TestServer) => server.seen.map(({ method, path }) => `${method} ${path}`);

describe("a registry with a token service", () => {
  function withTokens(lifetime: number): Handler {
    let uses = 0;
    return (request, response) => {
      if (request.path.startsWith("/token")) {
        const isKnown =
          request.headers.authorization === `Basic ${btoa("me:secret-word")}` || request.method === "POST";
        response.statusCode = isKnown ? 200 : 401;
        uses = 0;
        return response.end('{"token":"t0"}');
      }
      uses += 1;
      if (request.headers.authorization === "Bearer t0" && uses <= lifetime) return response.end();
      const realm = `http://${request.headers.host}/token`;
      response.writeHead(401, { "www-authenticate": `Bearer realm="${realm}",service="reg",scope="x"` });
      return response.end();
    };
  }

  test("is asked for a token with the login, and again when the token has run out", async () => {
    const { client, server } = await clientOf(withTokens(2), password);

    await client.check(["a", "b"]);
    for (let i = 0; i < 4; i++) await client.hasBlob("a", "sha256:1");

    const tokens = linesOf(server).filter((line) => line.includes("/token"));
    const scope = (name: string) => `scope=repository%3A${name}%3Apull%2Cpush`;
    expect(tokens[0]).toBe(`GET /token?service=reg&${scope("a")}&${scope("b")}`);
    expect(tokens.slice(1)).toEqual([
      `GET /token?service=reg&${scope("a")}`,
      `GET /token?service=reg&${scope("a")}`,
    ]);
  });

  test("is given the identity token", async () => {
    const { client, server } = await clientOf(withTokens(9), {
      kind: "identity-token",
      token: new Secret("id-word"),
    });

    await client.check(["a"]);

    const form = new URLSearchParams(server.seen.find(({ method }) => method === "POST")?.body);
    expect(Object.fromEntries(form)).toMatchObject({
      grant_type: "refresh_token",
      refresh_token: "id-word",
      service: "reg",
    });
  });

  test("that does not know the login is an error without the password", async () => {
    const wrong: Credentials = { ...password, password: new Secret("wrong-word") };
    const { client } = await clientOf(withTokens(9), wrong);

    const error = await client.check(["a"]).catch((thrown: unknown) => thrown);

    expect(error).toMatchObject({ code: "registry_unauthorized" });
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain("wrong-word");
  });
});

test("a registry that wants a password and gets none says so", async () => {
  const { client } = await clientOf((_, response) =>
    response.writeHead(401, { "www-authenticate": "Basic" }).end(),
  );

  await expect(client.check(["a"])).rejects.toMatchObject({
    code: "registry_unauthorized",
    hint: /docker login/,
  });
});

test("a registry that is busy is asked again when it wishes, but not for ever", async () => {
  const { client, server } = await clientOf((_, response) =>
    response.writeHead(429, { "retry-after": "3" }).end(),
  );

  await expect(client.hasBlob("a", "sha256:1")).rejects.toMatchObject({ code: "registry_unavailable" });

  expect(server.seen).toHaveLength(4);
  expect(pauses).toEqual([3000, 3000, 3000]);
});

test("a server that is no registry is told as such", async () => {
  const { client } = await clientOf((_, response) => response.writeHead(404).end("<html>"));

  await expect(client.check(["a"])).rejects.toMatchObject({
    code: "registry_refused",
    hint: /is a registry/,
  });
});

describe("an upload", () => {
  /** Keeps uploads in memory; `spoil` may answer in its place. */
  function registry(spoil: (line: string, count: number) => "cut" | "forget" | undefined): {
    handle: Handler;
    stored: () => Buffer;
  } {
    let held = Buffer.alloc(0);
    let count = 0;
    const handle: Handler = ({ method, path, body, headers }, response) => {
      count += 1;
      const trouble = spoil(`${method} ${path}`, count);
      const location = { location: "/v2/a/blobs/uploads/u?state=1" };
      if (method === "POST") {
        held = Buffer.alloc(0);
        return response.writeHead(202, location).end();
      }
      if (trouble === "forget")
        return response.writeHead(404).end('{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}');
      const range = () => ({ ...location, range: `0-${Math.max(0, held.length - 1)}` });
      if (method === "GET") return response.writeHead(204, range()).end();
      if (headers["content-range"]) expect(headers["content-range"]).toMatch(new RegExp(`^${held.length}-`));
      const bytes = Buffer.from(body);
      held = Buffer.concat([held, trouble === "cut" ? bytes.subarray(0, 400) : bytes]);
      if (trouble === "cut") return response.destroy();
      return response.writeHead(method === "PUT" ? 201 : 202, range()).end();
    };
    return { handle, stored: () => held };
  }

  const content = Buffer.from("0123456789".repeat(450));

  test("of a small blob is one request, of a large one several", async () => {
    const { handle, stored } = registry(() => undefined);
    const { client, server } = await clientOf(handle);

    await client.upload("a", blobOf(content.subarray(0, 900)), () => {});
    expect(server.seen.map(({ method }) => method)).toEqual(["POST", "PUT"]);
    expect(stored()).toEqual(content.subarray(0, 900));
    await client.upload("a", blobOf(content), () => {});

    expect(server.seen.slice(2).map(({ method, body }) => [method, body.length])).toEqual([
      ["POST", 0],
      ["PATCH", 1000],
      ["PATCH", 1000],
      ["PATCH", 1000],
      ["PATCH", 1000],
      ["PATCH", 500],
      ["PUT", 0],
    ]);
    expect(stored()).toEqual(content);
  });

  test("goes on where the connection was cut", async () => {
    const { handle, stored } = registry((_, count) => (count === 3 ? "cut" : undefined));
    const { client, server } = await clientOf(handle);
    const seen: number[] = [];

    await client.upload("a", blobOf(content), (sent) => seen.push(sent));

    expect(stored()).toEqual(content);
    expect(linesOf(server).filter((line) => line.startsWith("POST"))).toHaveLength(1);
    expect(seen.at(-1)).toBe(content.length);
    expect(pauses).toHaveLength(1);
  });

  test("begins anew when the registry has forgotten it", async () => {
    const { handle, stored } = registry((_, count) => (count === 3 ? "forget" : undefined));
    const { client, server } = await clientOf(handle);

    await client.upload("a", blobOf(content), () => {});

    expect(stored()).toEqual(content);
    expect(linesOf(server).filter((line) => line.startsWith("POST"))).toHaveLength(2);
  });

  test("that never gets on is given up", async () => {
    const { handle } = registry((line) => (line.startsWith("PATCH") ? "forget" : undefined));
    const { client, server } = await clientOf(handle);

    await expect(client.upload("a", blobOf(content), () => {})).rejects.toMatchObject({
      code: "registry_unavailable",
    });

    expect(server.seen.length).toBeLessThan(20);
  });

  test("to another address does not carry the login there", async () => {
    const storage = await startHttpServer((_, response) => response.writeHead(201).end());
    open.push(storage);
    const { client, server } = await clientOf(({ method, headers }, response) => {
      if (!headers.authorization) return response.writeHead(401, { "www-authenticate": "Basic" }).end();
      const location = method === "POST" ? { location: `${storage.url}/put?permission=1` } : {};
      return response.writeHead(method === "POST" ? 202 : 200, location).end();
    }, password);

    await client.upload("a", blobOf(content.subarray(0, 10)), () => {});

    expect(server.seen.at(-1)?.headers.authorization).toMatch(/^Basic/);
    expect(storage.seen.map(({ headers, body }) => [headers.authorization, body])).toEqual([
      [undefined, "0123456789"],
    ]);
  });
});
