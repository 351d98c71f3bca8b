/** Everybody who wants to keep GitLab from the public server, in a process of their own so that they cost the sender of real webhooks no time. */
import { randomUUID } from "node:crypto";
import { connect as connectPlain, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { serveParent } from "../../bench/parts/child.ts";
import { newSigningKey, signDelivery } from "../../src/gitlab/webhook-signature.ts";

export interface FloodOptions {
  /** `https://…` and `http://…`; each attacker takes the next. */
  readonly addresses: readonly string[];
  /** How many attackers of each kind there are at any time. */
  readonly attackers: Readonly<Partial<Record<Kind, number>>>;
}

type Kind = keyof typeof kinds;

/** What an attacker does on a new connection; it begins anew when that has been closed. */
type Attack = (socket: Socket) => void;

const MIB = 1024 ** 2;
const LONG_BYTES = 25_000_000;
const TRICKLE_MS = 1_000;
const wrongKey = newSigningKey();
const piece = Buffer.alloc(MIB, "x");
const small = Buffer.from('{"object_kind":"build","build_id":1,"build_status":"pending"}');

const kinds = {
  silent: () => {},
  slowHeaders: (socket) => {
    socket.write("POST /webhook HTTP/1.1\r\nhost: server\r\n");
    trickle(socket, "x-more: a\r\n");
  },
  /** As much as is kept of a body at once, and then hardly any more. */
  slowBodies: (socket) => {
    socket.write(head(signature(small), 9 * MIB));
    for (let mib = 0; mib < 8; mib++) socket.write(piece);
    trickle(socket, "x");
  },
  longBodies: (socket) => {
    socket.write(head(signature(small), LONG_BYTES));
    pump(socket, LONG_BYTES);
  },
  longChunkedBodies: (socket) => {
    socket.write(head(signature(small), undefined));
    socket.write(`${LONG_BYTES.toString(16)}\r\n`);
    pump(socket, LONG_BYTES, "\r\n0\r\n\r\n");
  },
  /** At full speed: as soon as one is answered the next is sent. */
  badSignatures: (socket) => {
    socket.write(head(signature(small), small.length));
    socket.write(small);
  },
  badTokens: (socket) => {
    socket.write(head({ "x-gitlab-token": randomUUID() }, small.length));
    socket.write(small);
  },
} satisfies Record<string, Attack>;

function signature(body: Buffer): Record<string, string> {
  const [id, timestamp] = [randomUUID(), Math.floor(Date.now() / 1_000)];
  const value = signDelivery(wrongKey, { id, timestamp, body });
  return { "webhook-id": id, "webhook-timestamp": String(timestamp), "webhook-signature": value };
}

function head(headers: Record<string, string>, length: number | undefined): string {
  const size =
    length === undefined ? { "transfer-encoding": "chunked" } : { "content-length": String(length) };
  const all = { host: "server", "x-gitlab-event": "Job Hook", ...size, ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return `POST /webhook HTTP/1.1\r\n${lines.join("")}\r\n`;
}

function trickle(socket: Socket, text: string): void {
  const timer = setInterval(() => socket.write(text), TRICKLE_MS);
  socket.once("close", () => clearInterval(timer));
}

/** Writes as fast as it is read. */
function pump(socket: Socket, bytes: number, end = ""): void {
  const next = bytes > MIB ? piece : piece.subarray(0, bytes);
  socket.write(next, (error) => {
    if (error) return;
    if (bytes > next.length) pump(socket, bytes - next.length, end);
    else socket.write(end);
  });
}

const connections: Partial<Record<Kind, number>> = {};
const statuses: Record<string, number> = {};
const open = new Set<Socket>();
let isOver = false;

function attack(kind: Kind, { protocol, hostname: host, port }: URL): void {
  if (isOver) return;
  connections[kind] = (connections[kind] ?? 0) + 1;
  const to = { host, port: Number(port) };
  const isTls = protocol === "https:";
  const socket = isTls ? connectTls({ ...to, rejectUnauthorized: false }) : connectPlain(to);
  open.add(socket);
  socket.on("error", () => {});
  socket.once(isTls ? "secureConnect" : "connect", () => kinds[kind](socket));
  socket.once("data", (chunk: Buffer) => {
    const status = chunk.toString("latin1").slice(9, 12);
    statuses[status] = (statuses[status] ?? 0) + 1;
  });
  socket.once("close", () => {
    open.delete(socket);
    // Not at once: a server that is gone would be a loop without end.
    setImmediate(attack, kind, new URL(`${protocol}//${host}:${port}`));
  });
}

function start({ addresses, attackers }: FloodOptions): void {
  let turn = 0;
  for (const [kind, count] of Object.entries(attackers)) {
    for (let index = 0; index < count; index++) {
      attack(kind as Kind, new URL(addresses[turn++ % addresses.length] ?? ""));
    }
  }
}

/** How many connections each kind has made, and how the public server answered. */
function stop() {
  isOver = true;
  for (const socket of open) socket.destroy();
  return { connections, statuses };
}

const handlers = { start, stop };
export type FloodProcess = typeof handlers;

serveParent(handlers, async () => void stop());
