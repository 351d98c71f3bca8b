import { randomBytes } from "node:crypto";
import { Secret } from "../../base/secret.ts";
import type { RelayTrials } from "../../relay/relay.ts";
import type { RelayLink } from "../../vm/driver.ts";

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
