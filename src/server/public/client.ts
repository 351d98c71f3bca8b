import type { IncomingMessage } from "node:http";
import { type AddressSet, canonicalAddress, limitKey } from "./address.ts";

/** Who sends a request. */
export interface Client {
  /** Undefined when a trusted proxy names something that is no address. */
  readonly address: string | undefined;
  /** What its requests are counted by. */
  readonly key: string;
}

/**
 * The rightmost hop that is no trusted proxy: everything to its left was written by the client, who may write what it likes.
 * Without a trusted proxy at the other end of the connection `X-Forwarded-For` means nothing.
 */
export function clientOf(request: IncomingMessage, trusted: AddressSet): Client {
  const peer = canonicalAddress(request.socket.remoteAddress);
  // A connection that is gone has no address any more; nobody will read its answer.
  if (peer === undefined) return { address: undefined, key: "gone" };
  let nearest = peer;
  for (const hop of trusted.has(peer) ? hopsOf(request) : []) {
    const address = canonicalAddress(withoutPort(hop));
    if (address === undefined) return { address, key: limitKey(nearest) };
    nearest = address;
    if (!trusted.has(address)) break;
  }
  return { address: nearest, key: limitKey(nearest) };
}

/** From right to left. */
function hopsOf(request: IncomingMessage): string[] {
  const header = request.headers["x-forwarded-for"] ?? "";
  const text = Array.isArray(header) ? header.join(",") : header;
  return text
    .split(",")
    .map((hop) => hop.trim())
    .filter((hop) => hop !== "")
    .toReversed();
}

/** Some proxies write `192.0.2.1:1234` or `[2001:db8::1]:1234`. */
function withoutPort(hop: string): string {
  const [, bracketed, dotted] = /^(?:\[([^\]]*)\]|(\d+\.\d+\.\d+\.\d+))(?::\d{1,5})?$/.exec(hop) ?? [];
  return bracketed ?? dotted ?? hop;
}
