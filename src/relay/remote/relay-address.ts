import type { Secret } from "../../base/secret.ts";
import type { MachineStore } from "../../store/store.ts";
import { RelayError } from "../errors.ts";
import { type Network, type NetworkOptions, openNetwork } from "./network.ts";
import { createTrialLinks } from "./remote-listener.ts";

/** How a machine on another host finds the relay, and proves who it is. */
export interface RelayLink {
  /** `host:port` */
  readonly address: string;
  readonly serverName: string;
  /** PEM */
  readonly ca: string;
  readonly secret: Secret;
}

/** Machines that try a host out: they may prove themselves here, and there is nothing for them. */
export interface Trials {
  /** Whether any could come: false where the relay listens nowhere on the network. */
  arePossible(): boolean;
  /** Throws RelayError `relay_no_network`. */
  link(machineId: string): RelayLink;
  /** When it first proved itself (epoch ms). */
  firstWordAt(machineId: string): number | undefined;
  forget(machineId: string): void;
}

export interface RelayAddressOptions extends Omit<NetworkOptions, "directory" | "trials"> {
  readonly store: Pick<MachineStore, "checkLink" | "issueLink">;
  /** Without one the relay listens nowhere on the network. */
  readonly directory: string | undefined;
}

/** The relay's side to machines on other hosts, which there may be none of. */
export interface RelayAddress {
  /** Listens, when that is configured. Throws RelayError. */
  start(): Promise<void>;
  /** Throws RelayError `relay_no_network` when no machine on another host could reach us. */
  require(machineId: string): Network;
  /** Throws RelayError `relay_no_network`, or `relay_no_link` for a machine that is not being created. */
  link(machineId: string): Promise<RelayLink>;
  readonly trials: Trials;
  look(): Promise<void>;
  close(): Promise<void>;
}

export function createRelayAddress(options: RelayAddressOptions): RelayAddress {
  const { store, directory, settings } = options;
  const links = createTrialLinks(options.clock);
  let network: Network | undefined;

  function require(machineId: string): Network {
    if (network) return network;
    const message = `opening the relay for ${machineId}: it is on another host, and the relay listens nowhere on the network`;
    throw new RelayError("relay_no_network", message, { hint: "set relay.listen and relay.advertise" });
  }

  return {
    async start() {
      if (settings.listen.length > 0 && directory !== undefined) {
        network = await openNetwork({ ...options, directory, trials: links });
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
    trials: {
      arePossible: () => network !== undefined,
      link: (machineId) => ({ ...require(machineId).way, secret: links.issue(machineId) }),
      firstWordAt: links.firstWordAt,
      forget: links.forget,
    },
    look: async () => await network?.look(),
    async close() {
      await network?.close();
      network = undefined;
    },
  };
}
