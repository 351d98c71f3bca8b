import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { endToEndHeaders } from "../gitlab/http.ts";
import { routeRules, type Served } from "./route-rules.ts";

/** What the relay reads itself. They end at the relay, but for the length of a body. */
const ownHeaders = ["connection", "content-length", "expect", "host", "transfer-encoding"];

/** What nobody may tell another server in somebody else's name: where a request comes from, what it really asks for, or that it were checked. */
const forgeable =
  /^(?:forwarded|via|x-forwarded-.*|x-real-ip|x-client-ip|x-cluster-client-ip|true-client-ip|cf-connecting-ip|x-http-method.*|x-method-override|x-original-.*|x-rewrite-url|x-sendfile.*|x-accel-.*|gitlab-.*|x-gitlab-.*)$/;

/**
 * Leaves of a request only the headers and the parts of the query that its route may have, so that nothing behind it sees another.
 * What is left out is forgotten at once: a request that waits must not keep it. Answers the query as it is now, with its `?`, or empty.
 */
export function keepAllowed(request: IncomingMessage, served: Served, query: string): string {
  const rule = routeRules[served];
  request.headers = allowedHeaders(request.headers, rule.headers);
  request.rawHeaders = [];
  return rule.query === "others" ? query : allowedQuery(query, rule.query);
}

function allowedHeaders(headers: IncomingHttpHeaders, allowed: readonly string[] | "others") {
  const isAllowed = (name: string) =>
    ownHeaders.includes(name) || (allowed === "others" ? !isForgeable(name) : allowed.includes(name));
  return Object.fromEntries(Object.entries(headers).filter(([name]) => isAllowed(name)));
}

/** Servers that hand headers on as variables take `_` for `-`: a name that only differs in that is the same name. */
function isForgeable(name: string): boolean {
  return forgeable.test(name.replaceAll(/[^a-z0-9]/g, "-"));
}

/** Names count as they are written: one in another spelling is another name, whatever it decodes to. */
function allowedQuery(query: string, allowed: readonly string[]): string {
  const parts = query
    .slice(1)
    .split("&")
    .filter((part) => allowed.includes(part.split("=", 1)[0] ?? ""));
  return parts.length > 0 ? `?${parts.join("&")}` : "";
}

/** A guest's headers as they go on to another server; `drop` (lower case) names more to leave out. */
export function headersFromGuest(
  headers: IncomingHttpHeaders,
  drop: readonly string[] = [],
): IncomingHttpHeaders {
  return Object.fromEntries(
    Object.entries(endToEndHeaders(headers)).filter(
      ([name]) => name !== "host" && name !== "expect" && !drop.includes(name),
    ),
  );
}

/** Words of GitLab's to whoever speaks to it directly. The relay is not GitLab's host, and its guests are not GitLab's users. */
const notForGuests = ["alt-svc", "nel", "report-to", "set-cookie", "strict-transport-security"];

/** The headers of a server's answer as a guest gets them. */
export function headersForGuest(headers: IncomingHttpHeaders): IncomingHttpHeaders {
  return Object.fromEntries(
    Object.entries(endToEndHeaders(headers)).filter(([name]) => !notForGuests.includes(name)),
  );
}

/** The one value of a header, or its first. */
export function single(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}
