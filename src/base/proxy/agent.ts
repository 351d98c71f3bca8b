import { isIP, type LookupFunction, type Socket } from "node:net";
import type { SecureContext } from "node:tls";
import { Agent, buildConnector, Client, type Dispatcher } from "undici";
import { formatHostPort } from "../host-port.ts";
import { proxyAnswered, proxyFailed } from "./errors.ts";
import { type ProxyRoutes, type ProxyServer, proxyFor, targetOfUrl } from "./routes.ts";
import { authorizationOf, wholeAddress, withoutProxyAnswers } from "./server.ts";

interface ProxiedAgentOptions {
  readonly proxies: ProxyRoutes;
  readonly connectTimeoutMs: number;
  /** Asked at each connection, so that certificates can be renewed. The same object means the same trust. */
  readonly secureContext: () => SecureContext;
  /** Replaces the resolution of names where no proxy leads. */
  readonly lookup?: LookupFunction;
  /** Longest silence before an answer's head, and within its body. Defaults are undici's. */
  readonly headersTimeoutMs?: number;
  readonly bodyTimeoutMs?: number;
}

/** Below the idle limits of GitLab's own servers, so that a request is not sent into a connection that is being closed. */
const KEEP_ALIVE_MS = 10_000;

/**
 * Makes HTTP requests directly or through a company's proxy, as `proxies` says of each target: to `https://` by CONNECT, and to `http://` by
 * asking the proxy for the whole address, since many proxies forbid CONNECT to other ports than 443. What fails at the proxy is a
 * ProxyError, perhaps as a cause. One request per connection at a time: a long poll must not stand in front of a trace.
 */
export function createProxiedAgent(options: ProxiedAgentOptions): Dispatcher {
  const { proxies, headersTimeoutMs, bodyTimeoutMs } = options;
  const agent = new Agent({
    pipelining: 1,
    allowH2: false,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connect: createConnector(options),
    ...(headersTimeoutMs === undefined ? {} : { headersTimeout: headersTimeoutMs }),
    ...(bodyTimeoutMs === undefined ? {} : { bodyTimeout: bodyTimeoutMs }),
  });
  if (proxies.http === undefined) return agent;
  return agent.compose((dispatch) => (wanted, handler) => {
    const url = URL.parse(String(wanted.origin ?? ""));
    const proxy = url?.protocol === "http:" ? proxyFor(targetOfUrl(url), proxies) : undefined;
    if (url === null || proxy === undefined) return dispatch(wanted, handler);
    return dispatch(wholeAddress(wanted, url, proxy), withoutProxyAnswers(handler, url.host, proxy));
  });
}

function createConnector(options: ProxiedAgentOptions): buildConnector.connector {
  const { proxies, connectTimeoutMs, lookup, secureContext } = options;
  const settings = { timeout: connectTimeoutMs, allowH2: false };
  const direct = perContext(secureContext, (context) =>
    buildConnector({ ...settings, secureContext: context, ...(lookup ? { lookup } : {}) }),
  );
  const toProxy = perContext(secureContext, (context) => proxyConnector(context, connectTimeoutMs));

  return (wanted, answer) => {
    const callback = endingWithFirstError(answer);
    const url = new URL(`${wanted.protocol}//${wanted.host ?? wanted.hostname}`);
    if (proxies.http !== undefined && url.origin === proxies.http.origin) {
      const proxy = proxies.http;
      toProxy()(wanted, (error, socket) => {
        if (error) callback(proxyFailed(proxy, error), null);
        else callback(null, socket as NonNullable<typeof socket>);
      });
      return;
    }
    const target = targetOfUrl(url);
    const proxy = proxyFor(target, proxies);
    if (proxy === undefined) {
      direct()(wanted, callback);
      return;
    }
    openTunnel({ proxy, target, secureContext: secureContext(), timeoutMs: connectTimeoutMs }).then(
      (httpSocket) => direct()({ ...wanted, httpSocket }, callback),
      (error: Error) => callback(error, null),
    );
  };
}

/**
 * By TLS 1.3 a server says after the handshake that it wants a certificate of ours, and closes: what a connection fails with first is the
 * reason, and not that it was closed then.
 */
function endingWithFirstError(answer: buildConnector.Callback): buildConnector.Callback {
  return (...given) => {
    const [, socket] = given;
    socket?.once("error", () => socket.destroy());
    answer(...given);
  };
}

/** A new connector for new certificates: its TLS sessions would go on with the old ones. */
function perContext(
  current: () => SecureContext,
  make: (context: SecureContext) => buildConnector.connector,
): () => buildConnector.connector {
  let made: { readonly context: SecureContext; readonly connect: buildConnector.connector } | undefined;
  return () => {
    const context = current();
    if (made?.context !== context) made = { context, connect: make(context) };
    return made.connect;
  };
}

/** Far more than a proxy's answer to CONNECT needs. */
const LARGEST_ANSWER_BYTES = 16 * 1024;

interface TunnelOptions {
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
function proxyConnector(secureContext: SecureContext, timeoutMs: number): buildConnector.connector {
  const connect = buildConnector({ timeout: timeoutMs, allowH2: false, secureContext, allowHalfOpen: true });
  return ({ servername: _ofTarget, ...wanted }, callback) => {
    const { hostname } = wanted;
    connect(isIP(hostname) === 0 ? { ...wanted, servername: hostname } : wanted, callback);
  };
}
