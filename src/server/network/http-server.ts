/** The HTTP server below a network server's routes, with TLS or without: how long it has patience, and for how much. */
import { createServer, type RequestListener, type Server, type ServerOptions } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { TLS_FLOOR, type TlsPair } from "../../base/tls.ts";

/** How late a timeout may be. Node's default of 30 s would make a limit of 10 s one of 40 s. */
const CHECK_MS = 1_000;

/**
 * What an answer that no page of a browser is needs. A list of our own: most of what helmet adds is about pages and scripts, and
 * its Strict-Transport-Security would bind every port of this host name, GitLab's own perhaps among them.
 */
export const securityHeaders: Readonly<Record<string, string>> = {
  "cache-control": "no-store",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};

/** Milliseconds; of all headers of a request together, bytes. */
export interface HttpLimits {
  readonly headersTimeout: number;
  readonly requestTimeout: number;
  readonly idleTimeout: number;
  readonly maxHeaderBytes: number;
}

/** A server that does not wait for anybody: for headers, for bodies, between requests, or for a handshake. */
export function createHttpServer(
  limits: HttpLimits,
  pair: TlsPair | undefined,
  handle: RequestListener,
): Server {
  // Node refuses to have headers wait longer than the whole request may.
  const headersTimeout = Math.min(limits.headersTimeout, limits.requestTimeout);
  const options: ServerOptions = {
    maxHeaderSize: limits.maxHeaderBytes,
    headersTimeout,
    requestTimeout: limits.requestTimeout,
    keepAliveTimeout: limits.idleTimeout,
    connectionsCheckingInterval: Math.min(CHECK_MS, headersTimeout),
  };
  const server = pair
    ? createTlsServer({ ...options, ...tlsOptions(pair), handshakeTimeout: headersTimeout }, handle)
    : createServer(options, handle);
  server.setTimeout(limits.idleTimeout);
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
