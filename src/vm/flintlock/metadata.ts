/**
 * What a machine on another host is told through its metadata service. flintlockd keeps it readable on its host and gives it to
 * everybody who may list machines: so there is nothing in it but the way to the relay and the machine's own secret. `user-data` is for
 * images of other people alone, and the same for all: lists carry all metadata of all machines.
 */
import type { RelayLink } from "../driver.ts";
import { userData } from "./user-data.ts";

export interface GuestNetwork {
  /** `10.77.0.12/24`; undefined: ask by DHCP. */
  readonly address: string | undefined;
  readonly gateway: string | undefined;
  readonly nameservers: readonly string[];
}

export interface GuestMetadata {
  readonly machineId: string;
  readonly link: RelayLink;
  readonly network: GuestNetwork;
  /** For an image of other people. */
  readonly cloudInit: boolean;
}

/** The documents of the metadata service by name, as plain text. */
export function renderMetadata(guest: GuestMetadata): Record<string, string> {
  const { machineId, link, network, cloudInit } = guest;
  const lines = {
    relay: link.address,
    server: link.serverName,
    secret: link.secret.reveal(),
    // One line: PEM without its line ends could not be read back.
    ca: Buffer.from(link.ca).toString("base64"),
    address: network.address ?? "dhcp",
    gateway: network.gateway,
    nameservers: network.nameservers.join(","),
  };
  const firerunner = Object.entries(lines)
    .filter(([, value]) => value !== undefined && value !== "")
    .map(([name, value]) => `${name}=${value}\n`)
    .join("");
  const metaData = `instance-id: ${machineId}\nlocal-hostname: ${machineId}\n`;
  return { "meta-data": metaData, ...(cloudInit ? { "user-data": userData() } : {}), firerunner };
}

/** The kernel's command line for our own images: what the initramfs has to know before there is a network. */
export function guestCommandLine(machineId: string): Record<string, string> {
  return { quiet: "", "fr.machine": machineId, "fr.relay": "10.0.2.100:80", "fr.metadata": "mmds" };
}
