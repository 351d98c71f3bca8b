import { isIP, type Socket } from "node:net";
import type { SecureContext } from "node:tls";
import { buildConnector, Client } from "undici";
import { formatHostPort } from "../host-port.ts";
import { proxyAnswered, proxyFailed } from "./errors.ts";
import { authorizationOf } from "./server.ts";
import type { ProxyServer } from "./ways.ts";

/** Far more than a proxy's answer to CONNECT needs. */
const LARGEST_ANSWER_BYTES = 16 * 1024;

export interface TunnelOptions {
  readonly proxy: ProxyServer;
  readonly target: { readonly host: string; readonly port: number };
  /** For a proxy that is spoken to by TLS. */
  readonly secureContext: SecureContext;
  /** For all of it: the connection, TLS, and the proxy's answer, which comes when it has reached the target. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/** A connection that ends at `target`, through the proxy (CONNECT). Throws ProxyError, or the reason of `signal`. */
export async function openTunnel(options: TunnelOptions): Promise<Socket> {
  const { proxy, secureContext, timeoutMs, signal } = options;
  const authority = formatHostPort(options.target);
  const limit = AbortSignal.timeout(timeoutMs);
  const client = new Client(proxy.origin, {
    connect: proxyConnector(secureContext, timeoutMs),
    maxHeaderSize: LARGEST_ANSWER_BYTES,
    headersTimeout: timeoutMs,
  });
  try {
    const authorization = authorizationOf(proxy);
    const { statusCode, socket } = await client.connect({
      path: authority,
      headers: { host: authority, ...(authorization ? { "proxy-authorization": authorization } : {}) },
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
    if (statusCode >= 200 && statusCode < 300) return socket as Socket;
    socket.on("error", () => {}).destroy();
    throw proxyAnswered(proxy, authority, statusCode);
  } catch (error) {
    signal?.throwIfAborted();
    throw proxyFailed(proxy, error);
  } finally {
    // The tunnel has left the client, which has nothing any more.
    await client.destroy();
  }
}

/** Connects to a proxy itself, which is known by its own name, whatever the request is for. */
export function proxyConnector(secureContext: SecureContext, timeoutMs: number): buildConnector.connector {
  const connect = buildConnector({ timeout: timeoutMs, allowH2: false, secureContext, allowHalfOpen: true });
  return ({ servername: _ofTarget, ...wanted }, callback) => {
    const { hostname } = wanted;
    connect(isIP(hostname) === 0 ? { ...wanted, servername: hostname } : wanted, callback);
  };
}
