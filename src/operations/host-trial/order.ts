import { Secret } from "../../base/secret.ts";
import type { TrialOrder } from "../../views/trial-api.ts";
import type { FlintlockHost } from "../../vm/flintlock/config.ts";

/** A trial needs no capacity, and places nothing by labels. */
const unused = { capacity: { cpus: 1, memoryMib: 1_024, machines: 1 }, labels: {} };

/** The host of an order, as the driver wants it. */
export function hostOf({ host }: TrialOrder): FlintlockHost {
  const { name, addresses, tls, token, network } = host;
  return {
    ...unused,
    name,
    addresses,
    tls: tls === null ? undefined : tlsOf(tls),
    token: secret(token),
    network: {
      bridge: network.bridge ?? undefined,
      addresses: network.addresses ?? undefined,
      gateway: network.gateway ?? undefined,
      nameservers: network.nameservers,
    },
  };
}

function tlsOf(tls: NonNullable<TrialOrder["host"]["tls"]>): NonNullable<FlintlockHost["tls"]> {
  return {
    ca: tls.ca ?? undefined,
    certificate: tls.certificate ?? undefined,
    key: secret(tls.key),
    serverName: tls.serverName ?? undefined,
  };
}

function secret(text: string | null): Secret | undefined {
  return text === null ? undefined : new Secret(text);
}
