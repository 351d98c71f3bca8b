/** One proxy: its address, how it is greeted, and requests that go to it with the whole address of their target. */
import type { Dispatcher } from "undici";
import { Secret } from "../secret.ts";
import { proxyAnswered } from "./errors.ts";
import type { ProxyServer } from "./routes.ts";

/** What is made of a proxy's address, or what is wrong with it: never with its user and password in the words. */
type ParsedProxy = { readonly server: ProxyServer } | { readonly problem: string };

/** `http://user:password@proxy.example.org:3128`; without a scheme it is http. `namedBy` says where it stands, for the words. */
export function parseProxy(text: string, namedBy: string): ParsedProxy {
  const url = URL.parse(/^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`);
  const expected = `${namedBy} must be the address of an HTTP proxy, such as http://proxy.example.org:3128`;
  if (url === null || url.hostname === "") return { problem: expected };
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    return { problem: `${expected}; ${url.protocol}// is not supported` };
  }
  if (!/^\/?$/.test(url.pathname) || url.search !== "" || url.hash !== "") {
    return { problem: `${expected}, without a path` };
  }
  const [username, password] = [decode(url.username), decode(url.password)];
  if (username === undefined || password === undefined) {
    return { problem: `${namedBy} has a user or password with a % that encodes nothing (a % itself is %25)` };
  }
  return {
    server: {
      origin: url.origin,
      namedBy,
      ...(username === "" ? {} : { username }),
      ...(password === "" ? {} : { password: new Secret(password) }),
    },
  };
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** The host and port of a proxy, without brackets. */
export function addressOf({ origin }: ProxyServer): { readonly host: string; readonly port: number } {
  const url = new URL(origin);
  const port = url.port === "" ? (url.protocol === "https:" ? 443 : 80) : Number(url.port);
  return { host: url.hostname.replace(/^\[(.*)\]$/, "$1"), port };
}

/** What `Proxy-Authorization` says to it; undefined for a proxy that asks no name. */
export function authorizationOf({ username, password }: ProxyServer): string | undefined {
  if (username === undefined) return undefined;
  return `Basic ${Buffer.from(`${username}:${password?.reveal() ?? ""}`).toString("base64")}`;
}

/** A request to `http://`, as one to the proxy that names the whole address. */
export function wholeAddress(
  wanted: Dispatcher.DispatchOptions,
  url: URL,
  proxy: ProxyServer,
): Dispatcher.DispatchOptions {
  const authorization = authorizationOf(proxy);
  const given = headersOf(wanted.headers);
  const headers = {
    host: url.host,
    ...given,
    ...(authorization ? { "proxy-authorization": authorization } : {}),
  };
  // Or the client would take the name in the proxy's certificate from the header “host”.
  const asked = { servername: addressOf(proxy).host };
  return { ...wanted, ...asked, origin: proxy.origin, path: url.origin + wanted.path, headers };
}

/** Headers in one of the forms in which the client takes them, by name in small letters. */
function headersOf(
  given: Dispatcher.DispatchOptions["headers"],
): Record<string, string | string[] | number | undefined> {
  if (given === null || given === undefined) return {};
  const pairs: (readonly [string, string | string[] | number | undefined])[] = [];
  if (isFlat(given)) {
    for (let at = 0; at + 1 < given.length; at += 2) pairs.push([given[at] ?? "", given[at + 1]]);
  } else if (Symbol.iterator in given) pairs.push(...(given as Iterable<[string, string]>));
  else pairs.push(...Object.entries(given));
  return Object.fromEntries(pairs.map(([name, value]) => [name.toLowerCase(), value]));
}

function isFlat(given: object): given is string[] {
  return Array.isArray(given) && !Array.isArray(given[0]);
}

/** Turns a 407, which can only be the proxy's own, into a failure: it is nothing for who asked the server behind it. */
export function withoutProxyAnswers(
  handler: Dispatcher.DispatchHandler,
  target: string,
  proxy: ProxyServer,
): Dispatcher.DispatchHandler {
  return new Proxy(handler, {
    get(inner, key) {
      const value: unknown = Reflect.get(inner, key);
      if (typeof value !== "function") return value;
      if (key !== "onResponseStart") return value.bind(inner) as unknown;
      return (controller: Dispatcher.DispatchController, status: number, ...rest: unknown[]) => {
        if (status === 407) controller.abort(proxyAnswered(proxy, target, status));
        else value.call(inner, controller, status, ...rest);
      };
    },
  });
}
