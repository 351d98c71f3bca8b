import { BlockList, isIP } from "node:net";

/** What an address is for, as far as guests are concerned. */
export type AddressKind =
  /** Anybody's. */
  | "public"
  /** Of a company's own networks: opened by `private: true`, or by a range. */
  | "private"
  /** Set apart for something else (documentation, benchmarks): opened by a range. */
  | "special"
  /** Leads to the host itself, its link or its metadata: opened by nothing but that very address. */
  | "closed"
  /** No address of a host, or one that hides another: never. */
  | "never";

/**
 * The first that matches counts; 0.0.0.0 leads to the host itself. An IPv4 list and an IPv6 list, because one that holds both families
 * matches an IPv4 address against IPv6 ranges as well.
 */
const kinds: readonly (readonly [Exclude<AddressKind, "public">, ...string[]])[] = [
  ["never", "0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4"],
  // Metadata and agents of clouds.
  ["closed", "127.0.0.0/8", "169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32"],
  ["private", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"],
  ["special", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15"],
  ["special", "198.51.100.0/24", "203.0.113.0/24"],
  ["closed", "::1/128", "fe80::/10", "fd00:ec2::/32", "fd20:ce::/64"],
  // With an IPv4 address inside: mapped, compatible, NAT64, Teredo, 6to4; and multicast.
  ["never", "::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16", "ff00::/8"],
  ["private", "fc00::/7"],
  ["special", "2001::/23", "2001:db8::/32", "3fff::/20"],
];

/** Only this is handed out as public. */
const ipv6Public = rangesOf(["2000::/3"]);

const lists = kinds.map(([kind, ...nets]) => ({ kind, list: rangesOf(nets) }));

/** Of an address that is one. */
export function addressKind(address: string): AddressKind {
  const found = lists.find(({ list }) => isIn(list, address));
  if (found) return found.kind;
  return isIP(address) === 4 || isIn(ipv6Public, address) ? "public" : "special";
}

export interface AddressRanges {
  readonly ipv4: BlockList;
  readonly ipv6: BlockList;
}

/** Of addresses and ranges, each well written. */
export function rangesOf(nets: readonly string[]): AddressRanges {
  const list = { ipv4: new BlockList(), ipv6: new BlockList() };
  for (const net of nets) {
    const [address = "", bits] = net.split("/");
    const family = isIP(address) === 4 ? "ipv4" : "ipv6";
    list[family].addSubnet(
      address,
      bits === undefined ? (family === "ipv4" ? 32 : 128) : Number(bits),
      family,
    );
  }
  return list;
}

export function isIn(list: AddressRanges, address: string): boolean {
  const family = isIP(address) === 4 ? "ipv4" : "ipv6";
  return list[family].check(address, family);
}

/** A range that holds one address, written with its length or without. */
export function isSingle(range: string): boolean {
  const [address = "", bits] = range.split("/");
  return bits === undefined || bits === (isIP(address) === 4 ? "32" : "128");
}
