import type { Clock } from "../../base/clock.ts";
import { SECOND_MS } from "../../base/units.ts";
import { VmError } from "../errors.ts";
import type { FlintlockClient } from "./client.ts";
import { type AddressRange, type FlintlockHost, numberOfAddress } from "./config.ts";
import type { ListedMicroVM } from "./gen/service_pb.js";
import type { Pauses } from "./listing.ts";
import { type ListFailure, listPatiently } from "./listing.ts";

/** How long a create without an answer may take until a list shows its machine. */
const HOLD_MS = 60 * SECOND_MS;

/** Gives each machine of a host an address that no other has. */
export interface Addresses {
  /** `10.77.0.12/24`, or undefined where machines ask by DHCP. Held until `release`. */
  choose(id: string, signal: AbortSignal): Promise<string | undefined>;
  /** `isKnown`: whether the machine was made is known, so that any list from now on tells. Else it is held some time longer. */
  release(id: string, isKnown: boolean): void;
  /** Has the host list the machines of all, as is done for each address. Nothing where machines ask by DHCP. */
  check(signal: AbortSignal): Promise<void>;
  /** Since when the host cannot list all machines, and why; undefined when it can. */
  failing(): ListFailure | undefined;
}

interface Hold {
  readonly address: string;
  until: number;
  /** Lists with a greater number show the machine, if there is one. */
  shownAfter: number;
}

export interface AddressesDeps {
  readonly host: FlintlockHost;
  readonly client: Pick<FlintlockClient, "list">;
  readonly clock: Clock;
  readonly pauses: Pauses;
}

export function createAddresses({ host, client, clock, pauses }: AddressesDeps): Addresses {
  let failing: ListFailure | undefined;
  const held = new Map<string, Hold>();
  let lists = 0;

  /** Those that a list of this number may not show yet. */
  function heldBeside(list: number): string[] {
    for (const [id, { until }] of held) if (until < clock.now()) held.delete(id);
    return [...held.values()].flatMap(({ address, shownAfter }) => (list > shownAfter ? [] : [address]));
  }

  /** Machines of all namespaces: others may use the same bridge. */
  async function listAll(signal: AbortSignal): Promise<readonly ListedMicroVM[]> {
    const askedAt = clock.now();
    try {
      const all = await listPatiently({ client, clock, pauses }, { namespace: "" }, signal);
      failing = undefined;
      return all;
    } catch (error) {
      if (!signal.aborted) failing = { since: failing?.since ?? askedAt, error };
      throw error;
    }
  }

  async function choose(id: string, signal: AbortSignal): Promise<string | undefined> {
    const { addresses: range, gateway } = host.network;
    if (!range) return undefined;
    const list = ++lists;
    const machines = await listAll(signal);
    const listed = machines.flatMap(
      ({ spec }) => spec?.interfaces.map((each) => each.address?.address) ?? [],
    );
    const taken = [gateway, ...listed.map((address) => address?.split("/")[0]), ...heldBeside(list)];
    const address = firstFree(range, new Set(taken));
    if (address === undefined) throw allTaken(host.name, range);
    held.set(id, { address, until: Number.POSITIVE_INFINITY, shownAfter: Number.POSITIVE_INFINITY });
    return `${address}/${range.prefixLength}`;
  }

  return {
    choose,
    async check(signal) {
      if (host.network.addresses) await listAll(signal);
    },
    failing: () => failing,
    release(id, isKnown) {
      const hold = held.get(id);
      if (!hold) return;
      hold.until = clock.now() + HOLD_MS;
      if (isKnown) hold.shownAfter = lists;
    },
  };
}

function firstFree(
  { first, last }: AddressRange,
  taken: ReadonlySet<string | undefined>,
): string | undefined {
  for (let next = numberOfAddress(first); next <= numberOfAddress(last); next++) {
    const address = toText(next);
    if (!taken.has(address)) return address;
  }
  return undefined;
}

function toText(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join(".");
}

function allTaken(host: string, { first, last }: AddressRange): VmError {
  return new VmError(
    "vm_no_address",
    `all addresses of the host ${host} from ${first} to ${last} are taken`,
    {
      hint: `widen network.addresses of the host, or give it fewer machines`,
      retryable: true,
    },
  );
}
