import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { eventually } from "../harness/eventually.ts";
import { createFaultProxy, type FaultProxy } from "../harness/fault-proxy.ts";

/** A server that answers each piece with itself, and what it saw. */
let proxy: FaultProxy;
let heard = "";
/** The server's side of the newest connection. */
let served: Socket | undefined;
const open: Socket[] = [];
const server = createServer((socket) => {
  served = socket;
  socket.on("error", () => {});
  socket.on("data", (piece) => {
    heard += piece;
    socket.write(piece);
  });
});

beforeEach(async () => {
  heard = "";
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  proxy = await createFaultProxy({ to: () => `127.0.0.1:${port}`, random: () => 0 });
});
afterEach(async () => {
  for (const socket of open.splice(0)) socket.destroy();
  await proxy[Symbol.asyncDispose]();
  await new Promise((resolve) => server.close(resolve));
});

interface Client {
  readonly socket: Socket;
  said(): string;
  error(): string | undefined;
}

async function dial(): Promise<Client> {
  const socket = connect(proxy.port, "127.0.0.1");
  open.push(socket);
  let said = "";
  let error: string | undefined;
  socket.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  socket.on("error", ({ code }: NodeJS.ErrnoException) => {
    error = code;
  });
  await once(socket, "connect");
  return { socket, said: () => said, error: () => error };
}

const answered = (client: Client, words: string) => eventually(words, () => client.said() === words);
/** Long enough for what is not held back to arrive. */
const aWhile = () => new Promise((resolve) => setTimeout(resolve, 100));

test("a partition holds back what is said until it is over, and nothing is lost", async () => {
  const client = await dial();
  client.socket.write("a");
  await answered(client, "a");

  await proxy.setFault({ kind: "partition" });
  client.socket.write("b");
  await aWhile();
  expect(heard).toBe("a");
  await proxy.setFault(undefined);

  await answered(client, "ab");
});

test("one way lets through what goes the other way", async () => {
  const client = await dial();

  await proxy.setFault({ kind: "one-way", way: "back" });
  client.socket.write("a");
  await eventually("it gets there", () => heard === "a");
  await aWhile();
  expect(client.said()).toBe("");
  await proxy.setFault(undefined);

  await answered(client, "a");
});

test("the end of a connection does not pass a partition either", async () => {
  const client = await dial();
  client.socket.write("a");
  await answered(client, "a");

  await proxy.setFault({ kind: "partition" });
  client.socket.end();
  await aWhile();
  expect(served?.readableEnded).toBe(false);
  await proxy.setFault(undefined);

  await eventually("the server hears of the end", () => served?.readableEnded);
});

test("half open: the server has lost the connection, the client is told nothing, and new ones work", async () => {
  const client = await dial();
  client.socket.write("a");
  await answered(client, "a");

  proxy.halfOpen();
  client.socket.write("b");
  await eventually("the server has lost it", () => served?.destroyed);
  await aWhile();
  expect([client.said(), client.error(), client.socket.destroyed]).toEqual(["a", undefined, false]);

  const other = await dial();
  other.socket.write("c");
  await answered(other, "c");
});

test("a reset ends what is open, and refusal what would be", async () => {
  const client = await dial();
  client.socket.write("a");
  await answered(client, "a");

  proxy.reset();
  await eventually("the client is reset", () => client.error() === "ECONNRESET");
  await proxy.setFault({ kind: "refuse" });
  await expect(dial()).rejects.toThrow("ECONNREFUSED");
  await proxy.setFault(undefined);

  const other = await dial();
  other.socket.write("b");
  await answered(other, "b");
});

test("delay and loss make late, and keep the order", async () => {
  const client = await dial();
  const startedAt = performance.now();

  await proxy.setFault({ kind: "loss", chance: 0.5, repeatMs: 60 });
  client.socket.write("a");
  await eventually("it gets there", () => heard === "a");
  await proxy.setFault({ kind: "delay", ms: 60 });
  client.socket.write("b");
  client.socket.write("c");

  await answered(client, "abc");
  expect(performance.now() - startedAt).toBeGreaterThan(120);
});
