import { Resolver, lookup as systemLookup } from "node:dns/promises";
import { isIP } from "node:net";
import { networkInterfaces } from "node:os";
import { type ProxyRoutes, type ProxyServer, proxyFor } from "../../base/proxy/routes.ts";
import { addressOf } from "../../base/proxy/server.ts";
import { type AddressKind, addressKind, isIn, isSingle, rangesOf } from "../../domain/address-kinds.ts";
import type { PrivateAddresses } from "../../domain/egress.ts";
import type { Target } from "./egress-policy.ts";

/** Returns why an address must not be reached, or undefined when it may be. `opened`: what the operator allows besides. */
export type AddressGuard = (address: string, opened?: PrivateAddresses) => string | undefined;

const OTHERWISE = "it is loopback, private, link-local or otherwise not public";

/** The strict default. `ownAddresses` are this computer's: its public ones lead to its own services too. */
export function createAddressGuard(ownAddresses: () => readonly string[] = interfaceAddresses): AddressGuard {
  return (address, opened = false) => {
    if (isIP(address) === 0) return "it is not an IP address";
    const kind = addressKind(address);
    if (kind !== "never" && isItself(address, opened)) return undefined;
    if (kind !== "public" && !isOpened(kind, address, opened)) return OTHERWISE;
    return isIn(rangesOf(ownAddresses()), address)
      ? "it belongs to the host that runs this machine"
      : undefined;
  };
}

function isOpened(kind: AddressKind, address: string, opened: PrivateAddresses): boolean {
  if (kind === "never" || kind === "closed") return false;
  if (typeof opened === "boolean") return opened && kind === "private";
  return isIn(rangesOf(opened), address);
}

/** The operator has written this one address down. */
function isItself(address: string, opened: PrivateAddresses): boolean {
  return typeof opened !== "boolean" && isIn(rangesOf(opened.filter(isSingle)), address);
}

function interfaceAddresses(): string[] {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .map(({ address }) => address.replace(/%.*$/, ""));
}

const TRY_MS = 2_500;
const TRIES = 2;

/** All addresses of a host name. Throws when it has none. */
export type Resolve = (host: string) => Promise<readonly string[]>;

/**
 * For names that guests choose: asks DNS, at `servers` (`address[:port]`) or those of the system. Not by the system's resolver, which works
 * in few threads: one guest's slow names would take them away from everybody.
 */
export function resolveByDns(servers?: readonly string[]): Resolve {
  return async (host) => {
    const resolver = new Resolver({ timeout: TRY_MS, tries: TRIES });
    if (servers) resolver.setServers(servers);
    const answers = await Promise.allSettled([resolver.resolve4(host), resolver.resolve6(host)]);
    const addresses = answers.flatMap((answer) => (answer.status === "fulfilled" ? answer.value : []));
    if (addresses.length > 0) return addresses;
    throw answers.find((answer) => answer.status === "rejected")?.reason ?? new Error("no address");
  };
}

/** For names that the operator wrote: they may stand in this computer's own tables. */
export async function resolveBySystem(host: string): Promise<readonly string[]> {
  const answers = await systemLookup(host, { all: true });
  return answers.map(({ address }) => address);
}

/** Behind a proxy nobody may know public names, and each connection of a guest waits for this long to see. */
const LOOK_MS = 1_500;

/**
 * Names that lead nowhere public, for machines of the company's network: a proxy would look them up in that network's own way. By RFC 6761,
 * 6762 and 8375, and those that ICANN keeps out of the public tree.
 */
const privateSuffixes = [
  "local",
  "localhost",
  "localdomain",
  "internal",
  "home.arpa",
  "corp",
  "home",
  "lan",
  "intranet",
  "private",
];

/** The proxies between this computer and others, in the eyes of guests, who may go through them and never to them. */
export interface CompanyProxies {
  readonly ports: readonly number[];
  /** The one that leads to a target; undefined when it is reached directly. */
  leadingTo(target: Target, secure: boolean): ProxyServer | undefined;
  /** True when the target is one of the proxies itself. `addresses`: those of its name, as far as they are known. */
  isOneOf(target: Target, addresses: readonly string[]): Promise<boolean>;
}

export function companyProxies(ways: ProxyRoutes, resolve: Resolve): CompanyProxies {
  const proxies = [ways.http, ways.https].flatMap((each) => (each ? [addressOf(each)] : []));
  return {
    ports: proxies.map(({ port }) => port),
    leadingTo: (target, secure) => proxyFor({ ...target, secure }, ways),
    async isOneOf(target, addresses) {
      for (const proxy of proxies.filter(({ port }) => port === target.port)) {
        if (target.host === proxy.host.toLowerCase()) return true;
        const own = isIP(proxy.host) === 0 ? await resolve(proxy.host).catch(() => []) : [proxy.host];
        if ([target.host, ...addresses].some((address) => own.includes(address))) return true;
      }
      return false;
    },
  };
}

/** The addresses of a name as far as anybody here knows them, in a short time; undefined when nobody does. */
export async function addressesSoon(host: string, resolve: Resolve): Promise<readonly string[] | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((settle) => {
    timer = setTimeout(() => settle(undefined), LOOK_MS);
  });
  try {
    const found = await Promise.race([resolve(host).catch(() => undefined), late]);
    return found === undefined || found.length === 0 ? undefined : found;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The address that a host means which is written as a number in any of the ways that a proxy may read (`127.1`, `0x7f000001`,
 * `2130706433`); undefined for a name; `unreadable` for numbers that are none.
 */
export function numericAddress(host: string): string | "unreadable" | undefined {
  if (isIP(host) !== 0) return host;
  if (!/^(?:0x[0-9a-f]*|\d+)$/i.test(host.split(".").at(-1) ?? "")) return undefined;
  const read = URL.parse(`http://${host}/`)?.hostname ?? "";
  return isIP(read) === 0 ? "unreadable" : read;
}

/** True for a name that only a network of one's own can know. */
export function isPrivateName(host: string): boolean {
  return !host.includes(".") || privateSuffixes.some((suffix) => host.endsWith(`.${suffix}`));
}
