import { createHash, randomBytes } from "node:crypto";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createAddressGuard } from "../../src/relay/egress/addresses.ts";
import {
  type BenchMachine,
  createRelayBench,
  type RelayBench,
  type RelayBenchOptions,
} from "./relay-bench.ts";

const MIB = 1024 ** 2;

let bench: RelayBench;
let servers: Server[];
let sockets: Set<Socket>;

beforeEach(() => {
  servers = [];
  sockets = new Set();
});

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await bench.close();
  for (const server of servers) await new Promise((resolve) => server.close(resolve));
});

async function machineWith(options: RelayBenchOptions): Promise<BenchMachine> {
  bench = await createRelayBench(options);
  return await bench.machine();
}

async function listen(server: Server): Promise<number> {
  servers.push(server);
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

/** Sends back what it gets, and ends when the other side ends. */
function listenEcho(): Promise<number> {
  return listen(createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)));
}

interface Tunnel {
  readonly socket: Socket;
  readonly status: number;
  /** The answer's head, and the words of a refusal. */
  readonly text: string;
}

function tunnel(machine: BenchMachine, authority: string): Promise<Tunnel> {
  const socket = connect({ path: machine.socketPath, allowHalfOpen: true });
  sockets.add(socket);
  socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  return new Promise((resolve, reject) => {
    socket.on("error", reject);
    socket.once("data", (data) => {
      const text = data.toString();
      resolve({ socket, text, status: Number(text.split(" ")[1]) });
    });
  });
}

/** Everything until the other side's end. */
async function read(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function audit(machine: BenchMachine): Promise<[string, string][]> {
  const events = await bench.store.events({ machineId: machine.id });
  return events.flatMap((event) =>
    "detail" in event && "target" in event.detail
      ? [[event.kind.replace("egress:", ""), event.detail.target] as [string, string]]
      : [],
  );
}

const everything = () => undefined;

describe("a tunnel", () => {
  test("carries every byte both ways, with each side ending for itself", async () => {
    const port = await listenEcho();
    const machine = await machineWith({ pool: { egress: "internet" }, relay: { guard: everything } });
    const { socket, status } = await tunnel(machine, `127.0.0.1:${port}`);
    const sent = randomBytes(20 * MIB);
    const received = read(socket);
    socket.end(sent);
    const digest = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");

    expect(status).toBe(200);
    expect(digest(await received)).toBe(digest(sent));
    expect(await audit(machine)).toEqual([
      ["asked", `127.0.0.1:${port}`],
      ["connected", `127.0.0.1:${port}`],
    ]);
  });

  test("of a pool without egress is refused in words, GitLab's own address too", async () => {
    const machine = await machineWith({ relay: { guard: everything } });
    const away = await tunnel(machine, "example.com:443");
    const gitlab = await tunnel(machine, new URL(bench.gitlab.url).host);

    expect([away.status, gitlab.status]).toEqual([403, 403]);
    expect(away.text).toMatch(/^HTTP\/1\.1 403 Forbidden by FireRunner: .*\(egress: none\)\r\n/);
    expect((await audit(machine)).map(([kind]) => kind)).toEqual(["refused", "refused"]);
  });

  test("to a GitLab without TLS is none: it is asked for without CONNECT, at its own port only", async () => {
    const port = await listenEcho();
    const machine = await machineWith({ pool: { egress: [] } });
    const gitlab = await tunnel(machine, new URL(bench.gitlab.url).host);
    const beside = await tunnel(machine, `127.0.0.1:${port}`);
    const plain = await proxied(
      machine,
      `GET ${bench.gitlab.url}/api/v4/version HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n`,
    );

    expect([gitlab.status, beside.status]).toEqual([403, 403]);
    expect(gitlab.text).toContain("GitLab is served without TLS here");
    expect(plain).toMatch(/^HTTP\/1\.1 (?:200|401) /);
  });

  test("of a pool with a list reaches what is listed", async () => {
    const port = await listenEcho();
    const machine = await machineWith({
      pool: { egress: [`*.example.com:${port}`] },
      relay: { guard: everything, resolve: async () => ["127.0.0.1"] },
    });
    const listed = await tunnel(machine, `cdn.example.com:${port}`);
    const other = await tunnel(machine, `example.org:${port}`);

    expect([listed.status, other.status]).toEqual([200, 403]);
  });

  test("to a private host by name is open where it is listed so, beside internet too, and nowhere else", async () => {
    const port = await listenEcho();
    const host = `nexus.example.com:${port}`;
    const addresses = new Map([
      ["nexus.example.com", "127.0.0.1"],
      ["other.example.com", "127.0.0.1"],
    ]);
    const resolve = async (name: string) => [addresses.get(name) ?? ""];
    const hosts = [{ host, private: ["127.0.0.1"] }];
    const machine = await machineWith({ pool: { egress: { mode: "internet", hosts } }, relay: { resolve } });
    const listed = await tunnel(machine, host);
    const other = await tunnel(machine, `other.example.com:${port}`);
    addresses.set("nexus.example.com", "169.254.169.254");
    const moved = await tunnel(machine, host);

    expect([listed.status, other.status, moved.status]).toEqual([200, 403, 403]);
  });

  test("to what the list lacks passes with audit, by a public address, and is written down", async () => {
    const port = await listenEcho();
    const guard = (address: string) => (address === "10.0.0.1" ? "private" : undefined);
    const resolve = async (name: string) => [name.startsWith("inside") ? "10.0.0.1" : "127.0.0.1"];
    const egress = { mode: "list", hosts: [`listed.example.com:${port}`], audit: true } as const;
    const machine = await machineWith({ pool: { egress }, relay: { guard, resolve } });
    const names = ["listed", "new", "inside"].map((name) => `${name}.example.com:${port}`);
    const answers = [];
    for (const name of names) answers.push((await tunnel(machine, name)).status);

    expect(answers).toEqual([200, 200, 403]);
    expect(await audit(machine)).toEqual([
      ["asked", names[0]],
      ["connected", names[0]],
      ["unlisted", names[1]],
      ["connected", names[1]],
      ["unlisted", names[2]],
      ["refused", names[2]],
    ]);
  });

  test.each([
    "127.0.0.1:22",
    "localhost:22",
    "169.254.169.254:80",
    "10.0.2.100:80",
    "[::1]:22",
    "[::ffff:127.0.0.1]:22",
    "0.0.0.0:22",
    "2130706433:22",
    "0x7f.1:22",
  ])("to %s is refused by default", async (authority) => {
    const resolve = async (host: string) => {
      if (host === "localhost" || host === "2130706433" || host === "0x7f.1") return ["127.0.0.1"];
      throw new Error("no such name");
    };
    const machine = await machineWith({ pool: { egress: "internet" }, relay: { resolve } });
    const { status, text } = await tunnel(machine, authority);

    expect([status, text]).toEqual([403, expect.stringContaining("must not be reached")]);
    // What was written down is in the store a moment after the answer.
    const kinds = async () => (await audit(machine)).map(([kind]) => kind);
    await expect.poll(kinds).toEqual(["asked", "refused"]);
  });

  test("to a name with one private address among public ones is refused", async () => {
    const machine = await machineWith({
      pool: { egress: "internet" },
      relay: { resolve: async () => ["8.8.8.8", "192.168.1.1"] },
    });

    expect((await tunnel(machine, "mixed.example.com:443")).status).toBe(403);
  });

  test("goes to the very address that was judged, whatever a second look-up would say", async () => {
    const port = await listenEcho();
    const answers = [["127.0.0.1"], ["127.0.0.2"]];
    let asked = 0;
    const machine = await machineWith({
      pool: { egress: "internet" },
      relay: {
        resolve: async () => answers[asked++] ?? [],
        guard: (address) => (address === "127.0.0.2" ? "the trap" : undefined),
      },
    });
    const first = await tunnel(machine, `rebind.example.com:${port}`);
    const second = await tunnel(machine, `rebind.example.com:${port}`);

    expect([first.status, second.status, asked]).toEqual([200, 403, 2]);
  });

  test("to a name that does not exist, or a port where nobody listens, is a 502 in words", async () => {
    const port = await listen(createServer());
    await new Promise((resolve) => servers.pop()?.close(resolve));
    const machine = await machineWith({
      pool: { egress: "internet" },
      relay: {
        guard: everything,
        resolve: async () => {
          throw new Error("ENOTFOUND");
        },
      },
    });
    const unknown = await tunnel(machine, "nowhere.example.com:443");
    const closed = await tunnel(machine, `127.0.0.1:${port}`);

    expect([unknown.status, unknown.text]).toEqual([502, expect.stringContaining("cannot be resolved")]);
    expect([closed.status, closed.text]).toEqual([502, expect.stringContaining("cannot be reached")]);
    expect(closed.text).toMatch(/^HTTP\/1\.1 502 Bad Gateway by FireRunner: the connection was refused/);
    expect((await audit(machine)).map(([kind]) => kind)).toEqual(["asked", "failed", "asked", "failed"]);
  });

  test("that is not answered in time is a 504", async () => {
    const machine = await machineWith({
      pool: { egress: "internet" },
      settings: { connectTimeout: 100 },
      relay: { resolve: () => new Promise(() => {}) },
    });

    expect((await tunnel(machine, "slow.example.com:443")).status).toBe(504);
  });

  test("that is silent for too long is closed", async () => {
    const port = await listenEcho();
    const machine = await machineWith({
      pool: { egress: "internet" },
      settings: { tunnelIdleTimeout: 100 },
      relay: { guard: everything },
    });
    const { socket } = await tunnel(machine, `127.0.0.1:${port}`);
    const closed = new Promise((resolve) => socket.once("end", resolve).resume());

    await expect(closed).resolves.toBeUndefined();
  });

  test("is one of a limited number, and leaves room for the runner", async () => {
    const port = await listenEcho();
    const machine = await machineWith({
      pool: { egress: "internet" },
      settings: { tunnels: 2 },
      relay: { guard: everything },
    });
    const first = await tunnel(machine, `127.0.0.1:${port}`);
    await tunnel(machine, `127.0.0.1:${port}`);
    const third = await tunnel(machine, `127.0.0.1:${port}`);
    const boot = await machine.guest.call("GET", "/firerunner/boot");
    first.socket.destroy();

    expect([third.status, boot.status]).toEqual([503, 200]);
    await expect.poll(async () => (await tunnel(machine, `127.0.0.1:${port}`)).status).toBe(200);
  });

  test("does not hold what a slow reader has not taken", async () => {
    let sentBytes = 0;
    const port = await listen(
      createServer((socket) => {
        const chunk = Buffer.alloc(MIB);
        const more = () => {
          while (!socket.destroyed && sentBytes < 200 * MIB) {
            sentBytes += chunk.length;
            if (!socket.write(chunk)) return void socket.once("drain", more);
          }
        };
        more();
      }),
    );
    const machine = await machineWith({ pool: { egress: "internet" }, relay: { guard: everything } });
    const { socket } = await tunnel(machine, `127.0.0.1:${port}`);
    socket.pause();
    let before = -1;
    await expect
      .poll(() => {
        const stands = before === sentBytes;
        before = sentBytes;
        return stands;
      })
      .toBe(true);

    expect(sentBytes).toBeLessThan(100 * MIB);
  });

  test("ends with the machine's server", async () => {
    const port = await listenEcho();
    const machine = await machineWith({ pool: { egress: "internet" }, relay: { guard: everything } });
    const { socket } = await tunnel(machine, `127.0.0.1:${port}`);
    const closed = new Promise((resolve) =>
      socket
        .once("close", resolve)
        .once("end", () => socket.destroy())
        .resume(),
    );
    await bench.relay.close(machine.id);
    await closed;

    await expect.poll(() => [...sockets].every((each) => each.destroyed)).toBe(true);
  });
});

describe("plain HTTP through the proxy", () => {
  test("reaches the server with the guest's own headers and body, without those of the proxy", async () => {
    const seen: object[] = [];
    const port = await listen(
      createHttpServer((request, response) => {
        request.setEncoding("utf8").on("data", (body) => {
          seen.push({ url: request.url, method: request.method, body, headers: request.headers });
        });
        request.on("end", () => response.writeHead(201, { "X-Answer": "yes" }).end("made"));
      }),
    );
    const machine = await machineWith({
      pool: { egress: [`mirror.example.com:${port}`] },
      relay: { guard: everything, resolve: async () => ["127.0.0.1"] },
    });
    const text = await proxied(
      machine,
      `POST http://mirror.example.com:${port}/a?b=c HTTP/1.1\r\nHost: mirror.example.com:${port}\r\n` +
        "Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nX-Own: 1\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody",
    );

    expect(text).toMatch(/^HTTP\/1\.1 201 [\s\S]*x-answer: yes[\s\S]*made/i);
    expect(seen).toMatchObject([{ url: "/a?b=c", method: "POST", body: "body" }]);
    expect(seen[0]).toMatchObject({ headers: { host: `mirror.example.com:${port}`, "x-own": "1" } });
    expect(JSON.stringify(seen)).not.toContain("proxy-");
    expect(await audit(machine)).toEqual([
      ["asked", `mirror.example.com:${port}`],
      ["connected", `mirror.example.com:${port}`],
    ]);
  });

  test("is refused where a tunnel would be, by the name and by its address", async () => {
    const machine = await machineWith({
      pool: { egress: "internet" },
      relay: { guard: createAddressGuard(), resolve: async () => ["10.0.0.1"] },
    });
    const answers = [
      await proxied(machine, "GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
      await proxied(
        machine,
        "GET http://inside.example.com/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
      ),
    ];

    expect(answers.map((text) => text.split(" ")[1])).toEqual(["403", "403"]);
    expect((await audit(machine)).map(([kind]) => kind)).toEqual(["asked", "refused", "asked", "refused"]);
    expect(answers[1]).toMatch(/^HTTP\/1\.1 403 Forbidden by FireRunner: it is loopback, private/);
  });

  test("does not follow redirects: where they lead is judged like any other request", async () => {
    const port = await listen(
      createHttpServer((_request, response) => {
        response.writeHead(302, { Location: "http://169.254.169.254/latest/meta-data" }).end();
      }),
    );
    const machine = await machineWith({ pool: { egress: [`127.0.0.1:${port}`] } });
    const text = await proxied(
      machine,
      `GET http://127.0.0.1:${port}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
    );

    expect(text.split(" ")[1]).toBe("302");
  });
});

async function proxied(machine: BenchMachine, request: string): Promise<string> {
  const socket = connect(machine.socketPath);
  sockets.add(socket);
  socket.write(request);
  return (await read(socket)).toString();
}
