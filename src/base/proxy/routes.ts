/** Which of a company's proxies leads to a target, and what a proxy's failure means for the operator. */
import { BlockList, isIP } from "node:net";
import { causeIn, codeIn, describeError, FireRunnerError } from "../errors.ts";
import type { Secret } from "../secret.ts";
import { certificateCode, unreachableProblems } from "../system-errors.ts";

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

type ProxyErrorCode =
  /** The company's proxy itself cannot be reached, or does not answer in time. */
  | "proxy_unreachable"
  /** The company's proxy asks for a user and password, or does not take those given (407). */
  | "proxy_authentication"
  /** The company's proxy answers, and does not lead to the target: its rules forbid it, or it cannot reach it. */
  | "proxy_refused"
  /** The certificate of the company's proxy is not trusted. */
  | "proxy_certificate";

/** What the way through a company's proxy fails with: always the proxy, never the server behind it. */
export class ProxyError extends FireRunnerError {
  /** What the proxy answered; undefined when it did not. */
  readonly status: number | undefined;

  constructor(
    code: ProxyErrorCode,
    message: string,
    options: ErrorOptions & { hint?: string; retryable?: boolean; status?: number } = {},
  ) {
    super(code, message, options);
    this.status = options.status;
  }
}

export function proxyErrorIn(error: unknown): ProxyError | undefined {
  return causeIn(error, ProxyError);
}

/** The proxy was asked to lead to `target` and answered with something else than 2xx. */
export function proxyAnswered(proxy: ProxyServer, target: string, status: number): ProxyError {
  const named = `the proxy ${proxy.origin} (${proxy.namedBy})`;
  if (status === 407) {
    return proxy.username === undefined
      ? new ProxyError("proxy_authentication", `${named} asks for a user and a password (407)`, {
          status,
          hint: "set proxy.url, proxy.username and proxy.passwordFile",
        })
      : new ProxyError("proxy_authentication", `${named} does not take the user and password given (407)`, {
          status,
          hint:
            proxy.namedBy === "proxy.url"
              ? "correct proxy.username and proxy.passwordFile"
              : `correct ${proxy.namedBy}`,
        });
  }
  const isForbidden = status >= 400 && status < 500;
  return new ProxyError("proxy_refused", `${named} answers ${status} when asked to lead to ${target}`, {
    status,
    retryable: !isForbidden,
    hint: isForbidden
      ? `let the proxy's rules allow this computer to reach ${target}, or name its host in proxy.noProxy when it needs no proxy`
      : `the proxy cannot reach ${target}: if it is in this network, name its host in proxy.noProxy`,
  });
}

/** No answer of the proxy came at all. */
export function proxyFailed(proxy: ProxyServer, cause: unknown): ProxyError {
  if (cause instanceof ProxyError) return cause;
  const named = `the proxy ${proxy.origin} (${proxy.namedBy})`;
  const code = codeIn(cause);
  if (certificateCode.test(code)) {
    return new ProxyError("proxy_certificate", `the certificate of ${named} is not trusted (${code})`, {
      cause,
      hint: "put the certificate of its authority into proxy.caFile",
    });
  }
  const timedOut = cause instanceof Error && cause.name === "TimeoutError";
  const why = timedOut ? "no answer in time" : (unreachableProblems[code] ?? describeError(cause));
  return new ProxyError("proxy_unreachable", `${named} cannot be reached: ${why}`, {
    cause,
    retryable: true,
    hint: `check ${proxy.namedBy}, and whether the proxy runs; “proxy.url: none” does without`,
  });
}
