import { connect, type Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { spoken } from "../harness/raw-socket.ts";
import {
  type BenchMachine,
  createRelayBench,
  dialLink,
  preambleOf,
  type RelayBench,
  type RelayBenchOptions,
} from "./relay-bench.ts";

let bench: RelayBench;
let sockets: Socket[] = [];

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets = [];
  await bench.close();
});

async function aMachine(options: RelayBenchOptions = {}): Promise<BenchMachine> {
  bench = await createRelayBench(options);
  return await bench.machine();
}

/** A connection of a machine's, wherever it is, on which something is written. */
function raw({ id, link, socketPath }: BenchMachine, text: string): Socket {
  const socket = link
    ? dialLink(link, preambleOf(id, link))
    : connect({ path: socketPath, allowHalfOpen: true });
  sockets.push(socket);
  socket.on("error", () => {});
  socket.write(text);
  return socket;
}

function get(path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: r\r\n\r\n`;
}

async function brokenRules({ id }: BenchMachine): Promise<string[]> {
  const events = await bench.store.events({ machineId: id });
  return events.flatMap((event) => (event.kind === "guest:refused" ? [event.detail.rule] : []));
}

function answersIn(text: string): number {
  return text.split("HTTP/1.1 ").length - 1;
}

const places: [where: string, options: RelayBenchOptions][] = [
  ["on this computer", {}],
  ["on another host", { network: true }],
];

describe.each(places)("a machine %s", (_where, options) => {
  test("has one request of a connection served at a time, in the order in which they came", async () => {
    let underWay = 0;
    let most = 0;
    const machine = await aMachine({
      ...options,
      relay: {
        bootData: async () => {
          underWay += 1;
          most = Math.max(most, underWay);
          await new Promise((resolve) => setTimeout(resolve, 5));
          underWay -= 1;
          return "boot\n";
        },
      },
    });
    const ten = Array.from({ length: 10 }, () => get("/firerunner/boot")).join("");
    const socket = raw(machine, `${ten}GET /nowhere HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\r\n`);
    const text = await spoken(socket);

    expect([answersIn(text), most]).toEqual([11, 1]);
    expect(text.indexOf("404")).toBeGreaterThan(text.lastIndexOf("boot"));
  });

  test("that sends hundreds ahead is hung up on, and nothing of them is kept", async () => {
    const machine = await aMachine(options);
    const socket = raw(machine, get("/firerunner/cancel").repeat(500));
    const text = await spoken(socket);

    expect(text).toBe("");
    await expect.poll(async () => await brokenRules(machine)).toContain("too-many-sent-ahead");
  });

  test("has one request that waits to hear of a cancel: the newest", async () => {
    const machine = await aMachine(options);
    const first = raw(machine, get("/firerunner/cancel"));
    const firstWords = new Promise<string>((resolve) => first.once("data", (data) => resolve(String(data))));
    const second = raw(machine, get("/firerunner/cancel"));
    const secondWords = new Promise<string>((resolve) =>
      second.once("data", (data) => resolve(String(data))),
    );

    expect(await firstWords).toContain("HTTP/1.1 204");
    bench.relay.tellCanceling(machine.id);
    expect(await secondWords).toMatch(/HTTP\/1\.1 200.*canceled/s);
  });

  test("whose waiting connection has ended waits no more", async () => {
    const machine = await aMachine(options);
    const first = raw(machine, get("/firerunner/cancel"));
    await bench.store.machine(machine.id);
    first.end();
    const text = await spoken(first);
    const second = raw(machine, get("/firerunner/cancel"));
    bench.relay.tellCanceling(machine.id);

    expect(text).toBe("");
    const words = await new Promise<string>((resolve) =>
      second.once("data", (data) => resolve(String(data))),
    );
    expect(words).toContain("canceled");
  });

  test("with more headers than anybody needs is told so", async () => {
    const machine = await aMachine(options);
    const many = Array.from({ length: 101 }, (_, index) => `X-${index}: 1\r\n`).join("");
    const text = await spoken(raw(machine, `GET /firerunner/boot HTTP/1.1\r\nHost: r\r\n${many}\r\n`));

    expect(text).toContain("HTTP/1.1 431");
  });
});

test("a tunnel behind a request that is still served is not opened", async () => {
  const machine = await aMachine({ pool: { egress: "internet" } });
  const socket = raw(
    machine,
    `${get("/firerunner/cancel")}CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n`,
  );

  expect(await spoken(socket)).toBe("");
});

test("reports that wait outside have not been read", async () => {
  bench = await createRelayBench({ settings: { updatesPerMinute: 1, heldPerMachine: 16 } });
  const machine = await bench.machine();
  await machine.handOver();
  const { job, token } = machine;
  const bytes = 4 * 1024 ** 2;
  const head = `PATCH /api/v4/jobs/${job.id}/trace HTTP/1.1\r\nHost: r\r\nJOB-TOKEN: ${token}\r\nContent-Range: 0-${bytes - 1}\r\nContent-Length: ${bytes}\r\n\r\n`;
  // More than the machine may hold, if they were all read.
  for (let count = 0; count < 8; count++) raw(machine, head).write(Buffer.alloc(bytes, "x"));
  const boot = await machine.guest.call("GET", "/firerunner/boot");

  expect(boot.status).toBe(200);
  expect(await brokenRules(machine)).toEqual([]);
});
