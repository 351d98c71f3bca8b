/** Which of a company's proxies leads to a target. */
import { BlockList, isIP } from "node:net";
import type { Secret } from "../secret.ts";

/** A company's HTTP proxy. */
export interface ProxyServer {
  /** Scheme, host and port, as in `http://proxy.example.org:3128`: without user and password, so it may be shown. */
  readonly origin: string;
  readonly username?: string;
  readonly password?: Secret;
  /** What named it: `proxy.url`, or a variable such as `HTTPS_PROXY`. */
  readonly namedBy: string;
}

/** Through which proxies this computer's network is left. */
export interface ProxyRoutes {
  /** For `http://` targets. */
  readonly http: ProxyServer | undefined;
  /** For `https://` targets, and for connections of which only host and port are known. */
  readonly https: ProxyServer | undefined;
  /** Targets that are reached without a proxy: names with all below them, addresses, networks, each perhaps with `:port`; `*` is all. */
  readonly except: readonly string[];
  /** PEM of authorities to trust for a proxy's own certificate, and for those that an inspecting proxy makes of others'. */
  readonly ca: string | undefined;
}

export const directRoutes: ProxyRoutes = { http: undefined, https: undefined, except: [], ca: undefined };

/** Where a connection is to end. `host` without brackets; `secure` is false for `http://` alone. */
interface ProxyTarget {
  readonly host: string;
  readonly port: number;
  readonly secure: boolean;
}

/** The proxy that leads to `target`; undefined when it is reached directly. This computer itself is never behind a proxy. */
export function proxyFor(target: ProxyTarget, proxies: ProxyRoutes): ProxyServer | undefined {
  const proxy = target.secure ? proxies.https : proxies.http;
  const host = plainHost(target.host);
  if (proxy === undefined || isLoopback(host)) return undefined;
  return proxies.except.some((entry) => isMeant(entry, host, target.port)) ? undefined : proxy;
}

/** The target of a URL; its port may be left out. */
export function targetOfUrl(url: URL): ProxyTarget {
  const secure = url.protocol !== "http:";
  const port = url.port === "" ? (secure ? 443 : 80) : Number(url.port);
  return { host: plainHost(url.hostname), port, secure };
}

/** Why `entry` cannot stand in a list of exceptions; undefined when it can. */
export function exceptionProblem(entry: string): string | undefined {
  return parseException(entry) === undefined
    ? `“${entry}” is no exception: expected a name (example.org, .example.org), an address, a network (10.0.0.0/8), each perhaps with :port, or *`
    : undefined;
}

interface Exception {
  readonly host: string;
  readonly prefixLength?: number;
  readonly port?: number;
}

const bracketed = /^\[([0-9a-f:.]+)\](?::(\d{1,5}))?$/;

const network = /^([0-9a-f:.]+)\/(\d{1,3})$/;

const nameWithPort = /^(?:\*?\.)?([a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?)(?::(\d{1,5}))?$/;

function parseException(text: string): Exception | undefined {
  const entry = text.trim().toLowerCase().replace(/\.$/, "");
  if (entry === "*" || isIP(entry) !== 0) return { host: entry };
  return parseNetwork(entry) ?? parseName(entry);
}

function parseNetwork(entry: string): Exception | undefined {
  const [, host = "", bits] = network.exec(entry) ?? [];
  const prefixLength = Number(bits);
  const longest = { 4: 32, 6: 128 }[isIP(host)] ?? -1;
  return prefixLength <= longest ? { host, prefixLength } : undefined;
}

function parseName(entry: string): Exception | undefined {
  const [, host, port] = bracketed.exec(entry) ?? nameWithPort.exec(entry) ?? [];
  if (host === undefined || Number(port ?? 1) > 65_535) return undefined;
  return { host, ...(port === undefined ? {} : { port: Number(port) }) };
}

function isMeant(entry: string, host: string, port: number): boolean {
  const exception = parseException(entry);
  if (exception === undefined) return false;
  if (exception.port !== undefined && exception.port !== port) return false;
  if (exception.host === "*") return true;
  if (isIP(exception.host) === 0) return host === exception.host || host.endsWith(`.${exception.host}`);
  return isWithin(host, exception.host, exception.prefixLength);
}

/** A name is never within a network: what it resolves to may differ from look to look. */
function isWithin(host: string, net: string, prefixLength: number | undefined): boolean {
  const [family, netFamily] = [isIP(host), isIP(net)];
  if (family === 0) return false;
  const list = new BlockList();
  list.addSubnet(net, prefixLength ?? (netFamily === 4 ? 32 : 128), netFamily === 4 ? "ipv4" : "ipv6");
  return list.check(host, family === 4 ? "ipv4" : "ipv6");
}

function isLoopback(host: string): boolean {
  if (host === "localhost" || host.endsWith(".localhost")) return true;
  return isWithin(host, "127.0.0.0", 8) || isWithin(host, "::1", 128);
}

function plainHost(host: string): string {
  return host
    .toLowerCase()
    .replace(/^\[(.*)\]$/, "$1")
    .replace(/\.$/, "");
}
