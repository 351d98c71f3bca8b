import type { Secret } from "../../base/secret.ts";
import type { Store } from "../../store/store.ts";
import { RelayError } from "../errors.ts";
import { type Network, type NetworkOptions, openNetwork } from "./network.ts";

/** How a machine on another host finds the relay, and proves who it is. */
export interface RelayLink {
  /** `host:port` */
  readonly address: string;
  readonly serverName: string;
  /** PEM */
  readonly ca: string;
  readonly secret: Secret;
}

export interface OutsideOptions extends Omit<NetworkOptions, "directory"> {
  readonly store: Pick<Store, "checkLink" | "issueLink">;
  /** Without one the relay listens nowhere on the network. */
  readonly directory: string | undefined;
}

/** The relay's side to machines on other hosts, which there may be none of. */
export interface Outside {
  /** Listens, when that is configured. Throws RelayError. */
  start(): Promise<void>;
  /** Throws RelayError `relay_no_network` when no machine on another host could reach us. */
  require(machineId: string): Network;
  /** Throws RelayError `relay_no_network`, or `relay_no_link` for a machine that is not being created. */
  link(machineId: string): Promise<RelayLink>;
  look(): Promise<void>;
  close(): Promise<void>;
}

export function createOutside(options: OutsideOptions): Outside {
  const { store, directory, settings } = options;
  let network: Network | undefined;

  function require(machineId: string): Network {
    if (network) return network;
    const message = `opening the relay for ${machineId}: it is on another host, and the relay listens nowhere on the network`;
    throw new RelayError("relay_no_network", message, { hint: "set relay.listen and relay.advertise" });
  }

  return {
    async start() {
      if (settings.listen.length > 0 && directory !== undefined) {
        network = await openNetwork({ ...options, directory });
      }
    },
    require,
    async link(machineId) {
      const { way } = require(machineId);
      const secret = await store.issueLink(machineId);
      if (secret) return { ...way, secret };
      const message = `a way to the relay for ${machineId}: the machine is not being created any more`;
      throw new RelayError("relay_no_link", message);
    },
    look: async () => await network?.look(),
    async close() {
      await network?.close();
      network = undefined;
    },
  };
}
