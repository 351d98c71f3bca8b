import type { IncomingHttpHeaders } from "node:http";
import type { GitLabHttp } from "../gitlab/http.ts";
import { pathBelow } from "./payload.ts";
import { routeOf } from "./routes.ts";

/** How a place on GitLab is named for a guest, which knows only the relay. */
export interface RelayLinks {
  readonly relayHost: string;
  readonly http: Pick<GitLabHttp, "origin" | "basePath">;
}

/** A renamed project answers with its new address: for the guest that lies behind the relay too. */
export function withRelayLocation(headers: IncomingHttpHeaders, links: RelayLinks): IncomingHttpHeaders {
  const { location } = headers;
  if (location === undefined) return headers;
  return { ...headers, location: viaRelay(location, links) ?? location };
}

/** The same place by way of the relay; undefined for what the relay does not serve. */
export function viaRelay(link: string, { relayHost, http }: RelayLinks): string | undefined {
  const url = URL.parse(link, http.origin);
  if (url === null) return undefined;
  const path = pathBelow(http.basePath, url.pathname);
  const isServed = ["GET", "POST", "PUT"].some((method) => routeOf(method, path) !== undefined);
  return isServed ? `http://${relayHost}${path}${url.search}` : undefined;
}
