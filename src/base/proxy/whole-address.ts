import type { Dispatcher } from "undici";
import { proxyAnswered } from "./errors.ts";
import { addressOf, authorizationOf } from "./server.ts";
import type { ProxyServer } from "./ways.ts";

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
