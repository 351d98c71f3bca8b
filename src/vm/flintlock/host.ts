import type { Secret } from "../../base/secret.ts";
import type { Capacity } from "../../domain/size.ts";

/** One host of the fleet, ready for use: files read, capacity counted. */
export interface FlintlockHost {
  readonly name: string;
  /** `host:port`, tried in turn. */
  readonly addresses: readonly string[];
  /** Undefined: plain text, because the configuration says so. */
  readonly tls: HostTls | undefined;
  readonly token: Secret | undefined;
  /** CPUs after over-commit. */
  readonly capacity: Capacity;
  /** Machines that its settings allow before its addresses are counted; undefined where that does not matter. */
  readonly wantedMachines?: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly network: HostNetwork;
}

export interface HostTls {
  /** PEM; undefined: the system's authorities. */
  readonly ca: string | undefined;
  /** PEM with its chain; for hosts that ask for one. */
  readonly certificate: string | undefined;
  /** PEM. */
  readonly key: Secret | undefined;
  /** The name in the host's certificate, when it is not the address's. */
  readonly serverName: string | undefined;
}

export interface HostNetwork {
  /** Undefined: flintlockd's own. */
  readonly bridge: string | undefined;
  /** Undefined: machines ask by DHCP. */
  readonly addresses: AddressRange | undefined;
  readonly gateway: string | undefined;
  readonly nameservers: readonly string[];
}

/** IPv4 addresses from `first` to `last`, both included. */
export interface AddressRange {
  readonly first: string;
  readonly last: string;
  readonly prefixLength: number;
}

/** Machines that a range has addresses for. */
export function addressesIn({ first, last }: AddressRange, gateway: string | undefined): number {
  const [from, to] = [numberOfAddress(first), numberOfAddress(last)];
  const at = gateway === undefined ? -1 : numberOfAddress(gateway);
  return to - from + 1 - (at >= from && at <= to ? 1 : 0);
}

/** An IPv4 address as a whole number. */
export function numberOfAddress(address: string): number {
  return address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
}
