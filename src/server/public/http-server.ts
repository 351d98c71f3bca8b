import { createServer, type RequestListener, type Server, type ServerOptions } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { TLS_FLOOR, type TlsPair } from "../../base/tls.ts";
import type { HttpConfig } from "../config.ts";

/** GitLab sends up to 20 custom headers of up to 2,048 characters each, beside its own. */
const MAX_HEADER_BYTES = 64 * 1024;
/** How late a timeout may be. Node's default of 30 s would make a limit of 10 s one of 40 s. */
const CHECK_MS = 1_000;

type Timeouts = Pick<HttpConfig, "headersTimeout" | "requestTimeout" | "idleTimeout">;

/** A server that does not wait for anybody: for headers, for bodies, between requests, or for a handshake. */
export function createHttpServer(
  config: Timeouts,
  pair: TlsPair | undefined,
  handle: RequestListener,
): Server {
  // Node refuses to have headers wait longer than the whole request may.
  const headersTimeout = Math.min(config.headersTimeout, config.requestTimeout);
  const options: ServerOptions = {
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout,
    requestTimeout: config.requestTimeout,
    keepAliveTimeout: config.idleTimeout,
    connectionsCheckingInterval: Math.min(CHECK_MS, headersTimeout),
  };
  const server = pair
    ? createTlsServer({ ...options, ...tlsOptions(pair), handshakeTimeout: headersTimeout }, handle)
    : createServer(options, handle);
  server.setTimeout(config.idleTimeout);
  return server;
}

/** For a new server and for a new pair in an old one: what is not said again there is forgotten. */
export function tlsOptions({ cert, key }: TlsPair): {
  cert: Buffer;
  key: Buffer;
  minVersion: typeof TLS_FLOOR;
} {
  return { cert, key, minVersion: TLS_FLOOR };
}
