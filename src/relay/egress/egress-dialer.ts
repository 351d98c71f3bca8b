import { connect, type LookupFunction, type Socket } from "node:net";
import type { SecureContext } from "node:tls";
import type { Dispatcher } from "undici";
import { formatHostPort } from "../../base/host-port.ts";
import { createProxiedAgent, openTunnel } from "../../base/proxy/agent.ts";
import { proxyErrorIn } from "../../base/proxy/errors.ts";
import { directRoutes, type ProxyRoutes, type ProxyServer } from "../../base/proxy/routes.ts";
import { trustContext } from "../../base/tls.ts";
import type { AddressGuard } from "./addresses.ts";
import { companyProxies, numericAddress, type Resolve, resolveByDns, resolveBySystem } from "./addresses.ts";
import { createEgressChecker } from "./egress-checker.ts";
import type { Destination, Target } from "./egress-policy.ts";
import { EgressRefusal, reasonOf } from "./egress-policy.ts";

/**
 * Reaches hosts that a guest, or GitLab on its behalf, has named. A name is resolved here and nowhere else, every address it has
 * is checked, and the connection goes to an address that was checked: a second look-up that answers differently cannot happen. Where a
 * company's proxy leads to the host, it resolves the name itself: then addresses are checked as far as they are known here.
 */
export interface Dialer {
  /** A TCP connection, established. Throws EgressRefusal: 403 when an address is forbidden, 502 or 504 when it cannot be reached. */
  connect(destination: Destination, signal: AbortSignal): Promise<Socket>;
  /** An HTTP(S) request to a destination. Throws EgressRefusal as `connect` does, perhaps as a cause. */
  request(destination: Destination, wanted: DestinedRequest): Promise<Dispatcher.ResponseData>;
  /** Checks an address written as such; names are checked when they are resolved. Throws EgressRefusal. */
  check(destination: Destination): void;
  close(): Promise<void>;
}

/** `origin` is that of the destination. */
export type DestinedRequest = Dispatcher.RequestOptions & { readonly origin: string };

export interface DialerOptions {
  readonly guard: AddressGuard;
  readonly connectTimeoutMs: number;
  /** Replaces both ways of resolving names: asking DNS for a guest's, and the system's for those the operator named. */
  readonly resolve?: Resolve;
  /** Through which proxies others are reached; by default through none. */
  readonly proxies?: ProxyRoutes | undefined;
  /** PEM of authorities that other servers of GitLab's may have their certificates from, besides the public ones. */
  readonly authorities?: () => readonly string[];
}

export function createDialer(options: DialerOptions): Dialer {
  const { guard, connectTimeoutMs, resolve, proxies = directRoutes } = options;
  const agents = new Map<string, Dispatcher>();
  const resolvers = { byDns: resolve ?? resolveByDns(), bySystem: resolve ?? resolveBySystem };
  const checker = createEgressChecker({
    guard,
    resolvers,
    proxies: companyProxies(proxies, resolvers.bySystem),
  });
  const secureContext = contextOf(options.authorities ?? (() => []));

  /** As many as the configuration has kinds of judging and proxies has, those it once had included. */
  function agentFor(destination: Destination, proxy: ProxyServer | undefined): Dispatcher {
    const { addresses, named } = destination;
    const key = JSON.stringify([addresses, named, checker.proxyPort(destination), proxy?.origin]);
    const known = agents.get(key);
    if (known) return known;
    const through = { ...proxies, http: proxy, https: proxy, except: [] };
    const lookup = checker.lookupFor(destination);
    const agent = createProxiedAgent({ proxies: through, connectTimeoutMs, secureContext, lookup });
    agents.set(key, agent);
    return agent;
  }

  async function tunnel({ target }: Destination, proxy: ProxyServer, signal: AbortSignal): Promise<Socket> {
    const host = numericAddress(target.host) ?? target.host;
    const wanted = { proxy, target: { ...target, host }, secureContext: secureContext() };
    const socket = await openTunnel({ ...wanted, timeoutMs: connectTimeoutMs, signal }).catch((error) => {
      throw closedByProxy(target, error) ?? error;
    });
    return socket.setNoDelay(true);
  }

  return {
    check: checker.check,
    async request(destination, wanted) {
      const proxy = await checker.proxyTo(destination, !wanted.origin.startsWith("http:"));
      const asking = agentFor(destination, proxy).request(wanted);
      return await asking.catch((error: unknown) => {
        throw closedByProxy(destination.target, error) ?? error;
      });
    },
    async connect(destination, signal) {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(connectTimeoutMs)]);
      const proxy = await checker.proxyTo(destination, true);
      if (proxy !== undefined) return await tunnel(destination, proxy, signal);
      return await established(destination.target, { lookup: checker.lookupFor(destination), signal: limit });
    },
    async close() {
      await Promise.all([...agents.values()].map((agent) => agent.destroy()));
    },
  };
}

/** Made when it is first needed, and anew when GitLab's authorities have been renewed. */
function contextOf(authorities: () => readonly string[]): () => SecureContext {
  let made: { readonly of: readonly string[]; readonly context: SecureContext } | undefined;
  return () => {
    const current = authorities();
    if (made?.of !== current) made = { of: current, context: trustContext(current) };
    return made.context;
  };
}

/** What a guest is told of a proxy that leads nowhere: not which proxy, and not who we are to it. */
function closedByProxy(target: Target, error: unknown): EgressRefusal | undefined {
  const proxy = proxyErrorIn(error);
  if (proxy === undefined) return undefined;
  const why =
    proxy.status !== undefined && proxy.status !== 407
      ? `the network's proxy answers ${proxy.status}`
      : "the network's proxy cannot be used now (its administrator sees why with “firerunner doctor”)";
  return new EgressRefusal(502, `${formatHostPort(target)} cannot be reached`, why, { cause: error });
}

function established(
  target: Target,
  { lookup, signal }: { lookup: LookupFunction; signal: AbortSignal },
): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: target.host, port: target.port, lookup, allowHalfOpen: true });
    const fail = (error: unknown) => {
      socket.destroy();
      reject(error instanceof EgressRefusal ? error : unreachable(target, error));
    };
    const abort = () => fail(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    socket.once("error", fail);
    socket.once("connect", () => {
      signal.removeEventListener("abort", abort);
      socket.off("error", fail);
      socket.setNoDelay(true);
      resolve(socket);
    });
    if (signal.aborted) abort();
  });
}

export function unreachable(target: Target, cause: unknown): EgressRefusal {
  const timedOut = cause instanceof Error && cause.name === "TimeoutError";
  const message = `${formatHostPort(target)} cannot be reached`;
  return new EgressRefusal(timedOut ? 504 : 502, message, reasonOf(cause), { cause });
}
