import { isIP } from "node:net";
import { type ProxyRoutes, type ProxyServer, proxyFor } from "../base/proxy/routes.ts";
import { addressOf } from "../base/proxy/server.ts";
import type { Target } from "./egress-policy.ts";
import type { Resolve } from "./egress-resolve.ts";

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
