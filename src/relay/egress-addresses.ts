import { BlockList, isIP } from "node:net";
import { networkInterfaces } from "node:os";

/**
 * Addresses no guest may reach by a name or a number it chose: this computer, private networks, the link, metadata services,
 * and every IPv6 form that carries an IPv4 address inside. Two lists, because one that holds both families matches an IPv4
 * address against IPv6 ranges as well.
 */
const ipv4Ranges = [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.88.99.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["224.0.0.0", 4],
  ["240.0.0.0", 4],
] as const;

/** Only 2000::/3 is handed out as public; these parts of it are not: Teredo, benchmarks, ORCHID, documentation, 6to4. */
const ipv6PublicRange = ["2000::", 3] as const;
const ipv6Exceptions = [
  ["2001::", 23],
  ["2001:db8::", 32],
  ["2002::", 16],
  ["3fff::", 20],
] as const;

/** Azure's metadata and agent service has a public address. */
const metadataAddresses = ["168.63.129.16"] as const;

/** Answers why an address must not be reached, in words, or undefined when it may be. */
export type AddressGuard = (address: string) => string | undefined;

/** The strict default. `ownAddresses` are this computer's: its public ones lead to its own services too. */
export function createAddressGuard(ownAddresses: () => readonly string[] = interfaceAddresses): AddressGuard {
  const ipv4 = new BlockList();
  for (const [net, prefix] of ipv4Ranges) ipv4.addSubnet(net, prefix, "ipv4");
  for (const address of metadataAddresses) ipv4.addAddress(address, "ipv4");
  const publicIpv6 = new BlockList();
  publicIpv6.addSubnet(...ipv6PublicRange, "ipv6");
  const exceptions = new BlockList();
  for (const [net, prefix] of ipv6Exceptions) exceptions.addSubnet(net, prefix, "ipv6");

  function isSpecial(address: string): boolean {
    if (isIP(address) === 4) return ipv4.check(address, "ipv4");
    return !publicIpv6.check(address, "ipv6") || exceptions.check(address, "ipv6");
  }

  return (address) => {
    if (isIP(address) === 0) return "it is not an IP address";
    if (isSpecial(address)) return "it is loopback, private, link-local or otherwise not public";
    if (isOneOf(address, ownAddresses())) return "it belongs to the host that runs this machine";
    return undefined;
  };
}

function isOneOf(address: string, others: readonly string[]): boolean {
  const list = new BlockList();
  for (const other of others) list.addAddress(other, isIP(other) === 4 ? "ipv4" : "ipv6");
  return list.check(address, isIP(address) === 4 ? "ipv4" : "ipv6");
}

function interfaceAddresses(): string[] {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .map(({ address }) => address.replace(/%.*$/, ""));
}
