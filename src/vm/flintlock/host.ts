import type { Secret } from "../../base/secret.ts";
import type { Capacity } from "../../lifecycle/size.ts";

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
