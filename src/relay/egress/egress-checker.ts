import { isIP, type LookupFunction } from "node:net";
import type { ProxyServer } from "../../base/proxy/routes.ts";
import type { AddressGuard, Resolve } from "./addresses.ts";
import { addressesSoon, type CompanyProxies, isPrivateName, numericAddress } from "./addresses.ts";
import type { Destination } from "./egress-policy.ts";
import { EgressRefusal, reasonOf } from "./egress-policy.ts";

/** Checks addresses of hosts, before or while they are reached. */
export interface EgressChecker {
  /** Checks an address written as such. Throws EgressRefusal. */
  check(destination: Destination): void;
  /** Resolves the names of one kind of destination and checks all their addresses. */
  lookupFor(destination: Destination): LookupFunction;
  /** Checks what can be checked ahead, and answers which proxy leads there; undefined when it is reached directly. Throws EgressRefusal. */
  proxyTo(destination: Destination, secure: boolean): Promise<ProxyServer | undefined>;
  /** The destination's port if one of the proxies has it too. */
  proxyPort(destination: Destination): number | undefined;
}

export interface EgressCheckerOptions {
  readonly guard: AddressGuard;
  /** For names that guests choose, and for those that the operator wrote. */
  readonly resolvers: { readonly byDns: Resolve; readonly bySystem: Resolve };
  readonly proxies: CompanyProxies;
}

/** What decides over an address, apart from the name: the same for all destinations of an entry of the configuration. */
type Judging = Pick<Destination, "addresses" | "named">;

export function createEgressChecker({ guard, resolvers, proxies }: EgressCheckerOptions): EgressChecker {
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
