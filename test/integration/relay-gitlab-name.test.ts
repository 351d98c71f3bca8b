import { once } from "node:events";
import { createServer as createHttpsServer, type Server as HttpsServer } from "node:https";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { type ConnectionOptions, connect as connectTls, createSecureContext } from "node:tls";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { EgressText } from "../../src/domain/egress.ts";
import { type CertificateAuthority, makeCertificateAuthority } from "../servers/certificates.ts";
import { type BenchMachine, createRelayBench, type RelayBench } from "./relay-bench.ts";

const GITLAB = "gitlab.example.com";
const OTHER = "intranet.example.com";

let authority: CertificateAuthority;
let front: HttpsServer;
let port: number;
/** The names by which the front was asked. */
let asked: string[];
let bench: RelayBench;
let sockets: Socket[];
let servers: Server[];

beforeAll(async () => {
  authority = await makeCertificateAuthority();
  const contexts = new Map<string, ReturnType<typeof createSecureContext>>();
  for (const host of [GITLAB, OTHER]) contexts.set(host, createSecureContext(await authority.issue(host)));
  // One key exchange only, so that a client which begins with another is asked for a second hello.
  const options = { ...(await authority.issue(GITLAB)), ecdhCurve: "P-384" };
  front = createHttpsServer(
    {
      ...options,
      SNICallback(name, done) {
        asked.push(name);
        done(null, contexts.get(name));
      },
    },
    (request, response) =>
      response.end(`served as ${(request.socket as never as { servername: string }).servername}`),
  );
  front.on("tlsClientError", () => {});
  await new Promise<void>((resolve) => front.listen(0, "127.0.0.1", resolve));
  port = (front.address() as AddressInfo).port;
});

afterAll(async () => {
  front.closeAllConnections();
  await new Promise((resolve) => front.close(resolve));
  await authority[Symbol.asyncDispose]();
});

beforeEach(() => {
  asked = [];
  sockets = [];
  servers = [];
});

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await bench.close();
  for (const server of servers) await new Promise((resolve) => server.close(resolve));
});

async function machineWith(egress: EgressText, settings = {}): Promise<BenchMachine> {
  bench = await createRelayBench({
    gitlabUrl: `https://${GITLAB}:${port}`,
    pool: { egress },
    settings,
    relay: { resolve: async () => ["127.0.0.1"] },
  });
  return await bench.machine();
}

async function tunnel(machine: BenchMachine, target: string): Promise<Socket> {
  const socket = connect({ path: machine.socketPath });
  sockets.push(socket);
  socket.on("error", () => {});
  socket.write(`CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n\r\n`);
  const [head] = (await once(socket, "data")) as [Buffer];
  if (!head.toString().startsWith("HTTP/1.1 200 ")) throw new Error(head.toString());
  // A server that speaks first may be heard at once.
  const rest = head.subarray(head.indexOf("\r\n\r\n") + 4);
  if (rest.length > 0) socket.unshift(rest);
  return socket;
}

/** What the front answers by that way, or the client's own error. */
async function fetchBy(socket: Socket | Duplex, options: ConnectionOptions): Promise<string> {
  const tls = connectTls({ ca: authority.ca, ...options, socket: socket as Socket });
  const chunks: Buffer[] = [];
  try {
    await once(tls, "secureConnect");
    tls.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    for await (const chunk of tls) chunks.push(chunk);
  } catch (error) {
    return `${(error as { code?: string }).code}: ${(error as Error).message}`;
  }
  return /served as \S+/.exec(Buffer.concat(chunks).toString())?.[0] ?? "nothing";
}

async function refusals(machine: BenchMachine): Promise<string[]> {
  const events = await bench.store.events({ machineId: machine.id });
  return events.flatMap((event) => (event.kind === "egress:refused" ? [event.detail.reason] : []));
}

const own = () => `${GITLAB}:${port}`;

describe.each<[EgressText]>([["internet"], [[]]])("the way to a private GitLab, with egress %j", (egress) => {
  test.each<[string, ConnectionOptions]>([
    ["TLS 1.2", { maxVersion: "TLSv1.2" }],
    ["TLS 1.3", { minVersion: "TLSv1.3", ecdhCurve: "P-384" }],
    ["TLS 1.3 with a second hello", { minVersion: "TLSv1.3", ecdhCurve: "X25519:P-384" }],
  ])("is open to its own name by %s", async (_what, options) => {
    const machine = await machineWith(egress);
    const socket = await tunnel(machine, own());

    expect(await fetchBy(socket, { servername: GITLAB, ...options })).toBe(`served as ${GITLAB}`);
    expect(await refusals(machine)).toEqual([]);
  });

  test("is closed to another name behind the same front, in words that a client shows", async () => {
    const machine = await machineWith(egress);
    const socket = await tunnel(machine, own());
    const words = await fetchBy(socket, { servername: OTHER });

    expect(words).toMatch(/unrecognized.name/i);
    expect(asked).toEqual([]);
    await expect
      .poll(() => refusals(machine))
      .toEqual([`its client asks for ${OTHER} by TLS, and this way is for ${GITLAB} alone`]);
  });
});

describe("the way to a private GitLab", () => {
  test("is closed to who names nobody", async () => {
    const machine = await machineWith("internet");
    await fetchBy(await tunnel(machine, own()), {
      host: GITLAB,
      checkServerIdentity: () => undefined,
      servername: "",
    });

    await expect.poll(() => refusals(machine)).toEqual([expect.stringContaining("asks for no name by TLS")]);
    expect(asked).toEqual([]);
  });

  test.each([
    ["HTTP", `GET / HTTP/1.1\r\nHost: ${OTHER}\r\n\r\n`, "for TLS with gitlab.example.com alone"],
    ["half a hello", "\u0016\u0003\u0001", "left before it had named a host"],
  ])("is closed to %s", async (_what, sent, words) => {
    const machine = await machineWith("internet");
    const socket = await tunnel(machine, own());
    socket.end(sent, "latin1");

    await expect.poll(() => refusals(machine)).toEqual([expect.stringContaining(words)]);
  });

  test("is closed to who says nothing for too long", async () => {
    const machine = await machineWith("internet", { connectTimeout: 200 });
    const socket = await tunnel(machine, own());
    await once(socket.resume(), "close");

    expect(await refusals(machine)).toEqual([expect.stringContaining("said nothing in TLS")]);
  });

  test("is open to a hello that comes byte by byte", async () => {
    const machine = await machineWith("internet");
    const socket = await tunnel(machine, own());
    const inCrumbs = new Duplex({
      read: () => {},
      write(chunk: Buffer, _encoding, done) {
        for (const byte of chunk) socket.write(Buffer.from([byte]));
        done();
      },
    });
    socket.on("data", (data) => inCrumbs.push(data)).on("end", () => inCrumbs.push(null));

    expect(await fetchBy(inCrumbs, { servername: GITLAB })).toBe(`served as ${GITLAB}`);
  });

  test("is closed to a second hello with another name, which the server would go by", async () => {
    const machine = await machineWith("internet");
    const [first, second] = await Promise.all([GITLAB, OTHER].map((servername) => firstFlight(servername)));
    const socket = await tunnel(machine, own());
    socket.write(first ?? "");
    const [retry] = (await once(socket, "data")) as [Buffer];
    socket.write(second ?? "");
    await once(socket.resume(), "close");

    expect(retry[0]).toBe(22);
    expect(asked).toEqual([GITLAB]);
    expect(await refusals(machine)).toEqual([expect.stringContaining(`asks for ${OTHER} by TLS`)]);
  });

  test("of another port is nobody's", async () => {
    const machine = await machineWith("internet");

    await expect(tunnel(machine, `${GITLAB}:${port === 65_535 ? port - 1 : port + 1}`)).rejects.toThrow(
      "403 Forbidden",
    );
  });
});

describe("the way to a private host by its listed name", () => {
  const listed = (host: string, toPort: number): EgressText => [
    { host: `${host}:${toPort}`, private: ["127.0.0.1"] },
  ];

  test("is for that name, where it is TLS", async () => {
    const machine = await machineWith(listed(OTHER, port));
    const right = await fetchBy(await tunnel(machine, `${OTHER}:${port}`), { servername: OTHER });
    const wrong = await fetchBy(await tunnel(machine, `${OTHER}:${port}`), { servername: GITLAB });

    expect(right).toBe(`served as ${OTHER}`);
    expect(wrong).toMatch(/unrecognized.name/i);
    expect(asked).toEqual([OTHER]);
  });

  test("carries what is not TLS, also when the server speaks first", async () => {
    const server = createServer((socket) => {
      socket.on("error", () => {}).write("SSH-2.0-server\r\n");
      socket.once("data", (data) => socket.end(`heard ${data}`));
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const sshPort = (server.address() as AddressInfo).port;
    const machine = await machineWith(listed("git.example.com", sshPort));
    const socket = await tunnel(machine, `git.example.com:${sshPort}`);
    const [greeting] = (await once(socket, "data")) as [Buffer];
    socket.write("SSH-2.0-client\r\n");
    const [answer] = (await once(socket, "data")) as [Buffer];

    expect([greeting.toString(), answer.toString()]).toEqual([
      "SSH-2.0-server\r\n",
      "heard SSH-2.0-client\r\n",
    ]);
  });
});

/** A real client's first hello, of which the front wants a second one. */
async function firstFlight(servername: string): Promise<Buffer> {
  const server = createServer((socket) => socket.on("error", () => {}));
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const accepted = once(server, "connection") as Promise<[Socket]>;
  const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
  sockets.push(client);
  connectTls({ socket: client, servername, minVersion: "TLSv1.3", ecdhCurve: "X25519:P-384" }).on(
    "error",
    () => {},
  );
  const [socket] = await accepted;
  sockets.push(socket);
  const [hello] = (await once(socket, "data")) as [Buffer];
  return hello;
}
