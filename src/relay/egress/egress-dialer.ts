/** Connects guests, and the relay for them, to where the policy allows: every address is checked before it is dialled. */
import { connect, isIP, type LookupFunction, type Socket } from "node:net";
import type { SecureContext } from "node:tls";
import type { Dispatcher } from "undici";
import { formatHostPort } from "../../base/host-port.ts";
import { createProxiedAgent, openTunnel } from "../../base/proxy/agent.ts";
import { proxyErrorIn } from "../../base/proxy/errors.ts";
import { directRoutes, type ProxyRoutes, type ProxyServer } from "../../base/proxy/routes.ts";
import { trustContext } from "../../base/tls.ts";
import {
  type AddressGuard,
  addressesSoon,
  type CompanyProxies,
  companyProxies,
  isPrivateName,
  numericAddress,
  type Resolve,
  resolveByDns,
  resolveBySystem,
} from "./addresses.ts";
import { type Destination, EgressRefusal, reasonOf, type Target } from "./egress-policy.ts";

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

interface DialerOptions {
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

/** Checks addresses of hosts, before or while they are reached. */
interface EgressChecker {
  /** Checks an address written as such. Throws EgressRefusal. */
  check(destination: Destination): void;
  /** Resolves the names of one kind of destination and checks all their addresses. */
  lookupFor(destination: Destination): LookupFunction;
  /** Checks what can be checked ahead, and answers which proxy leads there; undefined when it is reached directly. Throws EgressRefusal. */
  proxyTo(destination: Destination, secure: boolean): Promise<ProxyServer | undefined>;
  /** The destination's port if one of the proxies has it too. */
  proxyPort(destination: Destination): number | undefined;
}

interface EgressCheckerOptions {
  readonly guard: AddressGuard;
  /** For names that guests choose, and for those that the operator wrote. */
  readonly resolvers: { readonly byDns: Resolve; readonly bySystem: Resolve };
  readonly proxies: CompanyProxies;
}

/** What decides over an address, apart from the name: the same for all destinations of an entry of the configuration. */
type Judging = Pick<Destination, "addresses" | "named">;

function createEgressChecker({ guard, resolvers, proxies }: EgressCheckerOptions): EgressChecker {
  const resolverFor = ({ named }: Judging) => (named ? resolvers.bySystem : resolvers.byDns);

  function reasonAgainst(address: string, { addresses }: Judging): string | undefined {
    return addresses === "any" ? undefined : guard(address, addresses);
  }

  function check(destination: Destination): void {
    const { host } = destination.target;
    const address = numericAddress(host);
    if (address === undefined) return;
    const reason = address === "unreadable" ? "it is no address" : reasonAgainst(address, destination);
    if (reason !== undefined) throw forbidden(host, host, reason);
  }

  async function refuseProxy(host: string, port: number, addresses: readonly string[]): Promise<void> {
    if (!(await proxies.isOneOf({ host, port }, addresses))) return;
    throw forbidden(host, host, "it is a proxy of the network, and not for machines to speak to");
  }

  /** The proxy will resolve the name: what is known of it here is checked, and a name of which nothing is known must look public. */
  async function checkName(destination: Destination): Promise<void> {
    const { target, addresses } = destination;
    const found =
      addresses === "any" ? undefined : await addressesSoon(target.host, resolverFor(destination));
    await refuseProxy(target.host, target.port, found ?? []);
    if (found === undefined && addresses === false && isPrivateName(target.host)) {
      throw forbidden(target.host, target.host, "it is a name of private networks");
    }
    checkAll(target.host, found ?? [], (address) => reasonAgainst(address, destination));
  }

  return {
    check,
    proxyPort: ({ target }) => (proxies.ports.includes(target.port) ? target.port : undefined),
    lookupFor(destination) {
      const { port } = destination.target;
      const check = (address: string) => reasonAgainst(address, destination);
      return checkedLookup(resolverFor(destination), check, (host, addresses) =>
        refuseProxy(host, port, addresses),
      );
    },
    async proxyTo(destination, secure) {
      check(destination);
      const { target } = destination;
      const proxy = proxies.leadingTo(target, secure);
      if (proxy === undefined || numericAddress(target.host) !== undefined) {
        await refuseProxy(numericAddress(target.host) ?? target.host, target.port, []);
      } else {
        await checkName(destination);
      }
      return proxy;
    },
  };
}

function checkedLookup(
  resolve: Resolve,
  guard: AddressGuard,
  check: (host: string, addresses: readonly string[]) => Promise<void>,
): LookupFunction {
  return (host, options, callback) => {
    const checked = async () => {
      const addresses = await resolveChecked(host, resolve, guard);
      await check(host, addresses);
      return addresses;
    };
    checked().then(
      (addresses) => {
        const all = addresses.map((address) => ({ address, family: isIP(address) }));
        const first = all[0];
        if (options.all) callback(null, all);
        else callback(null, first?.address ?? "", first?.family);
      },
      (error) => callback(error, options.all ? [] : ""),
    );
  };
}

/** One forbidden address condemns the name: a name that is both public and private is a trick or a mistake. */
async function resolveChecked(
  host: string,
  resolve: Resolve,
  guard: AddressGuard,
): Promise<readonly string[]> {
  const addresses = await resolve(host).catch((cause: unknown) => {
    throw unresolved(host, reasonOf(cause), cause);
  });
  if (addresses.length === 0) throw unresolved(host, "the name has no address");
  checkAll(host, addresses, guard);
  return addresses;
}

function checkAll(host: string, addresses: readonly string[], guard: AddressGuard): void {
  for (const address of addresses) {
    const reason = guard(address);
    if (reason !== undefined) throw forbidden(host, address, reason);
  }
}

function unresolved(host: string, reason: string, cause?: unknown): EgressRefusal {
  return new EgressRefusal(502, `the name ${host} cannot be resolved`, reason, { cause });
}

function forbidden(host: string, address: string, reason: string): EgressRefusal {
  const what = host === address ? address : `${host} (${address})`;
  return new EgressRefusal(403, `${what} must not be reached from a machine`, reason);
}
