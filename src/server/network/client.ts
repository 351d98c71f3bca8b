import type { IncomingMessage } from "node:http";
import { BlockList, isIP, SocketAddress } from "node:net";

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

const MAPPED = "::ffff:";

/**
 * An address in its one form: IPv6 shortened and in lower case, IPv4-mapped IPv6 as IPv4, without a zone. Undefined when the
 * text is no address.
 */
export function canonicalAddress(text: string | undefined): string | undefined {
  const [address = ""] = (text ?? "").split("%", 1);
  const family = isIP(address);
  if (family !== 6) return family === 4 ? address : undefined;
  const canonical = new SocketAddress({ address, family: "ipv6" }).address;
  return canonical.startsWith(MAPPED) && canonical.includes(".") ? canonical.slice(MAPPED.length) : canonical;
}

/** By what requests of one client are counted: an IPv6 client has a whole /64 to take addresses from. */
export function limitKey(canonical: string): string {
  return canonical.includes(":") ? `${groupsOf(canonical).slice(0, 4).join(":")}::/64` : canonical;
}

/** The eight groups of a canonical IPv6 address, a dotted end counted as two. */
function groupsOf(address: string): string[] {
  const [head = "", tail] = address.split("::");
  const [before, after] = [split(head), split(tail ?? "")];
  const zeros = tail === undefined ? 0 : 8 - before.length - after.length;
  return [...before, ...Array<string>(zeros).fill("0"), ...after];
}

function split(part: string): string[] {
  return part === "" ? [] : part.split(":").flatMap((group) => (group.includes(".") ? [group, ""] : [group]));
}

/** Addresses by ranges such as `10.0.0.0/8`; an IPv4-mapped range counts as IPv4, as its clients do. */
export interface AddressSet {
  readonly isEmpty: boolean;
  /** For an address in its canonical form. */
  has(canonical: string): boolean;
}

/** `ranges` as the configuration accepts them. */
export function createAddressSet(ranges: readonly string[]): AddressSet {
  const list = new BlockList();
  for (const range of ranges) {
    const [text = "", bits] = range.split("/");
    const address = canonicalAddress(text) ?? text;
    if (isIP(text) === isIP(address)) add(list, address, bits);
    else add(list, ...mappedRange(text, address, bits));
  }
  return {
    isEmpty: ranges.length === 0,
    has: (address) => list.check(address, familyOf(address)),
  };
}

function mappedRange(text: string, address: string, bits: string | undefined): [string, string | undefined] {
  if (bits === undefined) return [address, undefined];
  return Number(bits) < 96 ? [text, bits] : [address, String(Number(bits) - 96)];
}

function add(list: BlockList, address: string, bits: string | undefined): void {
  if (bits === undefined) list.addAddress(address, familyOf(address));
  else list.addSubnet(address, Number(bits), familyOf(address));
}

function familyOf(address: string): "ipv4" | "ipv6" {
  return address.includes(":") ? "ipv6" : "ipv4";
}
