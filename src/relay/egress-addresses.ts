import { isIP } from "node:net";
import { networkInterfaces } from "node:os";
import { type AddressKind, addressKind, isIn, isSingle, rangesOf } from "../domain/address-kinds.ts";
import type { PrivateAddresses } from "../domain/egress.ts";

/** Answers why an address must not be reached, in words, or undefined when it may be. `opened`: what the operator allows besides. */
export type AddressGuard = (address: string, opened?: PrivateAddresses) => string | undefined;

const OTHERWISE = "it is loopback, private, link-local or otherwise not public";

/** The strict default. `ownAddresses` are this computer's: its public ones lead to its own services too. */
export function createAddressGuard(ownAddresses: () => readonly string[] = interfaceAddresses): AddressGuard {
  return (address, opened = false) => {
    if (isIP(address) === 0) return "it is not an IP address";
    const kind = addressKind(address);
    if (kind !== "never" && isItself(address, opened)) return undefined;
    if (kind !== "public" && !isOpened(kind, address, opened)) return OTHERWISE;
    return isIn(rangesOf(ownAddresses()), address)
      ? "it belongs to the host that runs this machine"
      : undefined;
  };
}

function isOpened(kind: AddressKind, address: string, opened: PrivateAddresses): boolean {
  if (kind === "never" || kind === "closed") return false;
  if (typeof opened === "boolean") return opened && kind === "private";
  return isIn(rangesOf(opened), address);
}

/** The operator has written this one address down. */
function isItself(address: string, opened: PrivateAddresses): boolean {
  return typeof opened !== "boolean" && isIn(rangesOf(opened.filter(isSingle)), address);
}

function interfaceAddresses(): string[] {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .map(({ address }) => address.replace(/%.*$/, ""));
}
