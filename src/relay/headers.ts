import type { IncomingHttpHeaders } from "node:http";
import { endToEndHeaders } from "../gitlab/http.ts";

/** What a guest must not tell others: where it comes from, or that it were one of GitLab's own parts. */
const forgeable = /^(?:forwarded|via|x-forwarded-.*|x-real-ip|x-client-ip|true-client-ip|gitlab-.*)$/;

/** A guest's headers as they may go on to another server; `drop` (lower case) names more to leave out. */
export function headersFromGuest(
  headers: IncomingHttpHeaders,
  drop: readonly string[] = [],
): IncomingHttpHeaders {
  return Object.fromEntries(
    Object.entries(endToEndHeaders(headers)).filter(
      ([name]) => name !== "host" && name !== "expect" && !forgeable.test(name) && !drop.includes(name),
    ),
  );
}

/** The one value of a header, or its first. */
export function single(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}
