import type { Server } from "node:http";
import type { Socket } from "node:net";
import type { FastifyReply, FastifyRequest } from "fastify";
import { after, type Clock } from "../../base/clock.ts";
import { startDeadline } from "../../base/deadline.ts";
import { describeError, systemCode } from "../../base/errors.ts";
import type { SampledLog } from "../../base/log.ts";
import type { KeyedRateLimit } from "../../base/rates.ts";
import { MIB_BYTES } from "../../base/units.ts";
import { type Client, canonicalAddress, limitKey } from "../network/client.ts";
import type { Connections } from "./connections.ts";
import { readBody } from "./read-body.ts";

/** What is read of a refused body, so that its sender gets to read the answer: one that still writes would miss it. */
const DRAINED_BYTES = MIB_BYTES;
const DRAINED_MS = 1_000;

export interface Refusal {
  readonly reason: RefusalReason;
  readonly status: number;
  /** For the sender and for the log; nothing secret. */
  readonly message: string;
}

export type Refuse = (request: FastifyRequest, reply: FastifyReply, refusal: Refusal) => Promise<void>;

interface RefuseDeps {
  readonly clientOf: (request: FastifyRequest) => Client;
  readonly limit: KeyedRateLimit;
  readonly tally: Tally;
  readonly sampled: SampledLog;
  readonly clock: Clock;
}

/**
 * Answers a request that has proved nothing, and closes its connection. A client that sends too many is told 429, without
 * anything being read or explained.
 */
export function createRefuse({ clientOf, limit, tally, sampled, clock }: RefuseDeps): Refuse {
  return async (request, reply, refusal) => {
    const client = clientOf(request);
    const waitS = limit.take(client.key);
    const { reason, status, message } = waitS > 0 ? tooMany(waitS) : refusal;
    tally.refused[reason] = (tally.refused[reason] ?? 0) + 1;
    sampled.write(
      "warn",
      `${client.key} ${reason}`,
      { client: client.address ?? "unknown", status, why: message },
      "a request at the public server was refused",
    );
    if (waitS > 0) reply.header("retry-after", waitS);
    else await drain(clock, request);
    reply.code(status).header("connection", "close").send({ message });
  };
}

function tooMany(waitS: number): Refusal {
  const message = `too many requests without a valid token or signature; the next is looked at in ${waitS} s`;
  return { reason: "too many", status: 429, message };
}

async function drain(clock: Clock, { raw }: FastifyRequest): Promise<void> {
  const hasBody = "transfer-encoding" in raw.headers || Number(raw.headers["content-length"] ?? 0) > 0;
  if (!hasBody || Number(raw.headers["content-length"] ?? 0) > DRAINED_BYTES) return;
  const patience = startDeadline(clock, DRAINED_MS);
  await readBody(raw, { mostBytes: DRAINED_BYTES, signal: patience.signal });
  patience.clear();
}

/** Why a request was refused, in words that a status can show. */
type RefusalReason =
  | "address not allowed"
  | "no valid token or signature"
  | "wrong signature"
  | "wrong method"
  | "unknown path"
  | "too long"
  | "no webhook configured"
  /** Of a client that has used up what it may send unproven, whatever the reason would have been. */
  | "too many";

/** Since the public server was opened. */
export interface RequestCounts {
  /** Authentic deliveries that were answered 200. */
  readonly accepted: number;
  /** Those of them whose body was too long, or found no room in memory. */
  readonly withoutBody: number;
  /** Authentic deliveries that were answered 503. */
  readonly failed: number;
  readonly refused: Readonly<Partial<Record<RefusalReason, number>>>;
  /** Requests and connections that broke off, were too slow or broke the protocol. */
  readonly broken: number;
  /** Connections that were closed to make room for new ones. */
  readonly displaced: number;
  readonly openConnections: number;
}

export interface Tally {
  accepted: number;
  withoutBody: number;
  failed: number;
  broken: number;
  displaced: number;
  readonly refused: Partial<Record<RefusalReason, number>>;
}

export function createTally(): Tally {
  return { accepted: 0, withoutBody: 0, failed: 0, broken: 0, displaced: 0, refused: {} };
}

/** How long a client may take to read why it was cut off. */
const LINGER_MS = 1_000;

const statusOf: Readonly<Record<string, string>> = {
  ERR_HTTP_REQUEST_TIMEOUT: "408 Request Timeout",
  HPE_HEADER_OVERFLOW: "431 Request Header Fields Too Large",
};

const reasonOf: Readonly<Record<string, string>> = {
  ERR_HTTP_REQUEST_TIMEOUT: "it was too slow",
  ERR_TLS_HANDSHAKE_TIMEOUT: "it never finished the TLS handshake",
  ERR_SSL_HTTP_REQUEST: "it spoke plain HTTP to an address that speaks TLS",
  ERR_SSL_UNSUPPORTED_PROTOCOL: "it offered no TLS version from 1.2 on",
  HPE_HEADER_OVERFLOW: "its headers were too long",
  ECONNRESET: "it broke off",
};

interface ClientErrorDeps {
  readonly connections: Connections;
  readonly tally: Tally;
  readonly sampled: SampledLog;
  readonly clock: Clock;
}

/** What becomes of connections that never hold a whole request: one line in the log, a short answer, the end. */
export function createClientErrors({ connections, tally, sampled, clock }: ClientErrorDeps) {
  const handled = new WeakSet<object>();

  function note(error: Error, socket: Socket): void {
    const client = canonicalAddress(socket.remoteAddress) ?? "unknown";
    const code = systemCode(error) ?? "";
    const why = reasonOf[code] ?? `it broke the protocol: ${describeError(error)}`;
    tally.broken++;
    const key = client === "unknown" ? client : limitKey(client);
    sampled.write("warn", `${key} ${code}`, { client, why }, "a connection at the public server was cut");
  }

  /** Fits Fastify's `clientErrorHandler`. */
  function onClientError(error: Error, socket: Socket): void {
    if (handled.has(socket)) return;
    handled.add(socket);
    note(error, socket);
    // What comes after a request that we still answer must not take its answer away.
    if (connections.isAnswering(socket)) return;
    if (!socket.writable || systemCode(error) === "ECONNRESET") return void socket.destroy();
    const status = statusOf[systemCode(error) ?? ""] ?? "400 Bad Request";
    socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
    after(clock, LINGER_MS, () => socket.destroy());
  }

  return {
    onClientError,
    /** True when something was wrong with the connection: what is whole on it is answered, and nothing more is read. */
    isSpoilt: (socket: Socket) => handled.has(socket),
    watch(server: Server): void {
      // Before Node's own listener, which makes a client error of it: who has no TLS yet can read no answer.
      server.prependListener("tlsClientError", (error: Error, socket: Socket) => {
        handled.add(socket);
        // Probes of ports connect and leave; that is no news.
        if (systemCode(error) !== "ECONNRESET") note(error, socket);
        socket.destroy();
      });
      // Running out of file descriptors, for example: without a listener it would end the program.
      server.on("error", (error) => {
        sampled.write(
          "warn",
          "accept",
          { why: describeError(error) },
          "the public server could not accept a connection",
        );
      });
    },
  };
}
