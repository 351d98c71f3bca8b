/** What a trial is given beside the image: its host, as an order names it, and where its guest is waited for. */

import { randomBytes } from "node:crypto";
import { Secret } from "../../base/secret.ts";
import type { RelayTrials } from "../../relay/relay.ts";
import type { TrialOrder } from "../../views/trial-api.ts";
import type { RelayLink } from "../../vm/driver.ts";
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

/** Where the guest of a trial is waited for. */
export interface TrialEndpoint {
  /** False: guests cannot come, and their first word is not waited for. */
  readonly isOpen: boolean;
  /** Where guests were told to come to, for messages. */
  readonly address: string;
  open(machineId: string): Promise<RelayLink>;
  firstWordAt(machineId: string): number | undefined;
  close(machineId: string): Promise<void>;
}

/** The relay's; where it does not listen on the network, one that leads nowhere. */
export function trialEndpoint(trials: RelayTrials): TrialEndpoint {
  if (!trials.arePossible()) return nowhere;
  let address = "";
  return {
    isOpen: true,
    get address() {
      return address;
    },
    async open(machineId) {
      const link = await trials.open(machineId);
      address = link.address;
      return link;
    },
    firstWordAt: trials.firstWordAt,
    close: trials.close,
  };
}

/** A machine has to be told something; names that end in `.invalid` are nobody's, for ever. */
const nowhere: TrialEndpoint = {
  isOpen: false,
  address: "",
  async open() {
    const secret = new Secret(randomBytes(32).toString("hex"));
    return { address: "relay.invalid:1", serverName: "relay.invalid", ca: "", secret };
  },
  firstWordAt: () => undefined,
  close: async () => {},
};
