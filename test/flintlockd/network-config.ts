import { stringify } from "yaml";
import type { NetworkInterface } from "../../src/vm/flintlock/gen/types_pb.js";

type Interface = Pick<NetworkInterface, "deviceId" | "guestMac" | "address">;

/** What flintlockd tells cloud-init of a machine's interfaces with `add_network_config`: base64, for the kernel's command line. */
export function networkConfig(interfaces: readonly Interface[]): string {
  const ethernets = Object.fromEntries(interfaces.map((each) => [each.deviceId, ethernet(each)]));
  return Buffer.from(stringify({ version: 2, ethernets })).toString("base64");
}

function ethernet({ deviceId, guestMac, address }: Interface) {
  const common = { dhcp4: address === undefined, dhcp6: false, "dhcp-identifier": "mac" };
  const match = guestMac === undefined ? { name: deviceId } : { macaddress: guestMac };
  if (!address) return { match, ...common };
  const { gateway, nameservers } = address;
  return {
    ...{ match, addresses: [address.address] },
    ...(gateway === undefined ? {} : { gateway4: gateway.split("/")[0] }),
    ...common,
    ...(nameservers.length > 0 ? { nameservers: { addresses: nameservers } } : {}),
  };
}
