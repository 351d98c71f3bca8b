import { createServer as createHttpServer, request as httpRequest } from "node:http";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { ProxyRoutes } from "../../src/base/proxy/routes.ts";
import { Secret } from "../../src/base/secret.ts";
import { type CompanyProxy, startCompanyProxy } from "../servers/company-proxy.ts";
import {
  type BenchMachine,
  createRelayBench,
  type RelayBench,
  type RelayBenchOptions,
} from "./relay-bench.ts";

const PASSWORD = "swordfish-of-the-proxy";

let bench: RelayBench;
let proxy: CompanyProxy;
let target: Server;
let sockets: Set<Socket>;

beforeEach(async () => {
  sockets = new Set();
  target = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
  target.on("connection", (socket: Socket) => sockets.add(socket.on("error", () => {})));
  await new Promise<void>((resolve) => target.listen(0, "127.0.0.1", resolve));
});

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await bench.close();
  await proxy[Symbol.asyncDispose]();
  await new Promise((resolve) => target.close(resolve));
});

const known: Readonly<Record<string, string[]>> = {
  "public.example.org": ["93.184.215.14"],
  "inside.example.org": ["10.1.2.3"],
  "mixed.example.org": ["93.184.215.14", "192.168.1.1"],
  localhost: ["127.0.0.1"],
};

interface Behind extends RelayBenchOptions {
  readonly proxies?: Partial<ProxyRoutes>;
  readonly password?: string;
  readonly refusal?: number;
  readonly names?: Readonly<Record<string, string[]>>;
}

/** A machine whose relay knows a few names, behind a proxy that leads all of them, and more, to one echo. */
async function machineBehind({
  proxies,
  password = PASSWORD,
  refusal,
  names = known,
  ...options
}: Behind = {}): Promise<BenchMachine> {
  const { port } = target.address() as AddressInfo;
  const hosts = [
    ...Object.keys(known),
    "unknown.example.org",
    "printer.corp",
    "intranet",
    "10.1.2.3",
    "127.0.0.1",
  ];
  const routes = Object.fromEntries(
    hosts.flatMap((host) => [443, 80].map((each) => [`${host}:${each}`, port])),
  );
  proxy = await startCompanyProxy({
    user: "firerunner",
    password: PASSWORD,
    routes,
    ...(refusal ? { refusal } : {}),
  });
  const named = {
    origin: proxy.url,
    namedBy: "proxy.url",
    username: "firerunner",
    password: new Secret(password),
  };
  const resolve = async (host: string) => {
    const found = names[host];
    if (found === undefined) throw new Error("no such name");
    return found;
  };
  bench = await createRelayBench({
    pool: { egress: "internet" },
    ...options,
    relay: {
      resolve,
      proxies: { http: named, https: named, except: [], ca: undefined, ...proxies },
      ...options.relay,
    },
  });
  return await bench.machine();
}

async function tunnel(
  machine: BenchMachine,
  authority: string,
): Promise<{ status: number; text: string; socket: Socket }> {
  const socket = connect({ path: machine.socketPath, allowHalfOpen: true });
  sockets.add(socket.on("error", () => {}));
  socket.write(
    `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\nProxy-Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n`,
  );
  return await new Promise((resolve) => {
    socket.once("data", (data) => {
      const text = data.toString();
      resolve({ socket, text, status: Number(text.split(" ")[1]) });
    });
  });
}

function get(machine: BenchMachine, url: string): Promise<{ status: number; text: string; headers: object }> {
  return new Promise((resolve, reject) => {
    const headers = { host: new URL(url).host, "proxy-authorization": "Basic Z3Vlc3Q6Z3Vlc3Q=" };
    const asking = httpRequest({ socketPath: machine.socketPath, path: url, headers }, async (answer) => {
      let text = "";
      for await (const chunk of answer) text += chunk;
      resolve({ status: answer.statusCode ?? 0, text, headers: answer.headers });
    });
    asking.on("error", reject).end();
  });
}

describe("a guest's way behind a company's proxy", () => {
  test("leads through it, with our credentials and not the guest's, and every byte arrives", async () => {
    const machine = await machineBehind();
    const { socket, status } = await tunnel(machine, "public.example.org:443");
    socket.end("hello");
    let echo = "";
    for await (const chunk of socket) echo += chunk;

    expect([status, echo]).toEqual([200, "hello"]);
    expect(proxy.asked).toEqual(["CONNECT public.example.org:443"]);
    expect(proxy.unproven()).toBe(0);
  });

  test("of http asks for the whole address, and the server hears of no proxy", async () => {
    const web = createHttpServer((request, response) => response.end(JSON.stringify(request.headers)));
    const echo = target;
    target = web;
    await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
    const machine = await machineBehind();
    const { status, text } = await get(machine, "http://public.example.org/a?b");
    await new Promise((resolve) => echo.close(resolve));

    expect(status).toBe(200);
    expect(JSON.parse(text)).toMatchObject({ host: "public.example.org" });
    expect(text).not.toContain("proxy-authorization");
    expect(proxy.asked).toEqual(["GET http://public.example.org/a?b"]);
  });

  test("to a name that nobody here knows is the proxy's to find", async () => {
    const machine = await machineBehind();

    expect((await tunnel(machine, "unknown.example.org:443")).status).toBe(200);
  });

  test.each([
    "inside.example.org:443",
    "mixed.example.org:443",
    "10.1.2.3:443",
    "127.0.0.1:443",
    "[::ffff:10.1.2.3]:443",
    "127.1:443",
    "0x7f000001:443",
    "2130706433:443",
    "0177.0.0.1:443",
    "1.2.3.4.5:443",
    "localhost:443",
    "intranet:443",
    "printer.corp:443",
    "metadata.google.internal:80",
    "169.254.169.254:80",
  ])("to %s is refused before the proxy hears of it", async (authority) => {
    const machine = await machineBehind();
    const { status, text } = await tunnel(machine, authority);

    expect([status, text]).toEqual([403, expect.stringContaining("must not be reached")]);
    const url = `http://${authority.replace(":443", ":80")}/`;
    if (URL.canParse(url)) expect((await get(machine, url)).status).toBe(403);
    expect(proxy.asked).toEqual([]);
  });

  test("that the operator has named leads to private names too", async () => {
    const host = "printer.corp:443";
    const machine = await machineBehind({
      pool: { egress: { mode: "list", hosts: [{ host, private: true }] } as never },
    });

    expect((await tunnel(machine, host)).status).toBe(200);
  });

  test("leads to no proxy itself, by whatever name", async () => {
    const machine = await machineBehind({
      names: { "trick.example.org": ["127.0.0.1"] },
      relay: { guard: () => undefined },
      proxies: { except: ["127.0.0.1"] },
    });
    for (const host of ["127.0.0.1", "trick.example.org", "127.1"]) {
      expect(await tunnel(machine, `${host}:${proxy.port}`)).toMatchObject({
        status: 403,
        text: expect.stringContaining("a proxy of the network"),
      });
      expect((await get(machine, `http://${host}:${proxy.port}/`)).status).toBe(403);
    }

    expect(proxy.asked).toEqual([]);
  });

  test("to an excepted name is direct, with every check", async () => {
    const { port } = target.address() as AddressInfo;
    const names = { "near.example.org": ["127.0.0.1"], "far.example.org": ["127.0.0.2"] };
    const guard = (address: string) => (address === "127.0.0.1" ? undefined : "the trap");
    const machine = await machineBehind({ names, relay: { guard }, proxies: { except: ["example.org"] } });

    expect((await tunnel(machine, `near.example.org:${port}`)).status).toBe(200);
    expect((await tunnel(machine, `far.example.org:${port}`)).status).toBe(403);
    expect(proxy.asked).toEqual([]);
  });

  test.each([
    [{ password: "wrong" }, /cannot be used now/],
    [{ refusal: 403 }, /answers 403/],
    [{ refusal: 503 }, /answers 503/],
  ])("that ends at the proxy is a 502 in words that betray nothing: %j", async (behind, words) => {
    const machine = await machineBehind(behind);
    const byTunnel = await tunnel(machine, "public.example.org:443");

    expect([byTunnel.status, byTunnel.text]).toEqual([502, expect.stringMatching(words)]);
    expect(byTunnel.text).not.toMatch(/swordfish|ZmlyZ|127\.0\.0\.1|proxy-authenticate/i);
    if ("password" in behind) {
      const plain = await get(machine, "http://public.example.org/");
      expect([plain.status, plain.text]).toEqual([502, expect.stringMatching(words)]);
      expect(plain.headers).not.toHaveProperty("proxy-authenticate");
    }
  });
});
