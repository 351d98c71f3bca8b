import type { Server } from "node:http";
import type { Socket } from "node:net";
import { after, type Clock } from "../../base/clock.ts";
import { describeError, systemCode } from "../../base/errors.ts";
import type { SampledLog } from "../../base/log.ts";
import { canonicalAddress, limitKey } from "./address.ts";
import type { Connections } from "./connections.ts";
import type { Tally } from "./counts.ts";

/** How long a client may take to read why it was cut off. */
const LINGER_MS = 1_000;

const statusOf: Readonly<Record<string, string>> = {
  ERR_HTTP_REQUEST_TIMEOUT: "408 Request Timeout",
  HPE_HEADER_OVERFLOW: "431 Request Header Fields Too Large",
};

const wordsOf: Readonly<Record<string, string>> = {
  ERR_HTTP_REQUEST_TIMEOUT: "it was too slow",
  ERR_TLS_HANDSHAKE_TIMEOUT: "it never finished the TLS handshake",
  ERR_SSL_HTTP_REQUEST: "it spoke plain HTTP to an address that speaks TLS",
  ERR_SSL_UNSUPPORTED_PROTOCOL: "it offered no TLS version from 1.2 on",
  HPE_HEADER_OVERFLOW: "its headers were too long",
  ECONNRESET: "it broke off",
};

export interface ClientErrorDeps {
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
    const why = wordsOf[code] ?? `it broke the protocol: ${describeError(error)}`;
    tally.broken++;
    const key = client === "unknown" ? client : limitKey(client);
    sampled.write("warn", `${key} ${code}`, { client, why }, "a connection at the door was cut");
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
          "the door could not accept a connection",
        );
      });
    },
  };
}
