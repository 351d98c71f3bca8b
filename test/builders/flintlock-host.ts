import type { FlintlockHost } from "../../src/vm/flintlock/config.ts";

/** A host of the fleet with plaintext and DHCP, changed as a test wants it. */
export function aFlintlockHost(change: Partial<FlintlockHost> = {}): FlintlockHost {
  return {
    name: "metal-1",
    addresses: ["127.0.0.1:1"],
    tls: undefined,
    token: undefined,
    capacity: { cpus: 16, memoryMib: 32_768, machines: 16 },
    labels: {},
    network: { bridge: undefined, addresses: undefined, gateway: undefined, nameservers: [] },
    ...change,
  };
}
