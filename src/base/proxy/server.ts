import { Secret } from "../secret.ts";
import type { ProxyServer } from "./ways.ts";

/** What is made of a proxy's address, or what is wrong with it: never with its user and password in the words. */
export type ParsedProxy = { readonly server: ProxyServer } | { readonly problem: string };

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
