import type { Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import type { AskRegistry } from "../../domain/images.ts";
import type { MachineSpec } from "../driver.ts";
import { type Addresses, createAddresses } from "./addresses.ts";
import type { FlintlockClient } from "./client.ts";
import type { FlintlockConfig } from "./config.ts";
import { type Creates, createCreates } from "./creates.ts";
import { createMachine, pick } from "./creator.ts";
import { type GuardedClient, guardClient } from "./guard.ts";
import { createHealth, type Health } from "./health.ts";
import type { FlintlockHost } from "./host.ts";
import { createListing, type Listing, listPatiently, type Snapshot } from "./listing.ts";
import { createPace } from "./pace.ts";
import { createPauses, type Pauses } from "./pause.ts";
import { isWaiting, remoteMachine } from "./remote.ts";
import { createRemover, type Remover } from "./remover.ts";

export interface FlintlockDriverOptions {
  readonly host: FlintlockHost;
  /** Tells our machines from those of others at flintlockd. */
  readonly namespace: string;
  readonly settings: Omit<FlintlockConfig, "hosts">;
  readonly clock: Clock;
  readonly log: Log;
  readonly random: () => number;
  /** Whether hosts can still pull an image; without it nobody is asked. */
  readonly askRegistry?: AskRegistry;
}

/** What a driver of one host consists of. */
export interface Parts {
  readonly client: GuardedClient;
  readonly listing: Listing;
  readonly health: Health;
  readonly addresses: Addresses;
  readonly remover: Remover;
  readonly creates: Creates;
  readonly pauses: Pauses;
  readonly clock: Clock;
  /** The machines that are known to be ours, by uid: of several with one id they are the ones to keep. */
  readonly made: ReadonlySet<string>;
  /** Ends all waiting. */
  readonly closed: AbortController;
  /** Ends the calls that have an effect; later than the waiting, so that their answer may still come. */
  readonly callsEnd: AbortController;
}

export function createParts(unguarded: FlintlockClient, options: FlintlockDriverOptions): Parts {
  const { host, namespace, settings, clock, log } = options;
  const closed = new AbortController();
  const callsEnd = new AbortController();
  const made = new Set<string>();
  const pauses = createPauses(clock, options.random);
  const client = guardClient(unguarded, host.name, clock);
  const listing = createListing({ client, namespace, clock, pauses, closed: closed.signal });
  const shared = { client, listing, clock, pauses, log, callsEnd: callsEnd.signal };
  const addresses = createAddresses({ host, client, clock, pauses });
  const pace = createPace({ clock, pullTimeoutMs: settings.pullTimeout });
  const health = createHealth({
    ...{ host: host.name, listing, addresses },
    clock,
    patienceMs: (id) => pace.patienceMs(id),
    deleteTimeoutMs: settings.deleteTimeout,
    async isBehindOthers(uid) {
      const all = await listPatiently({ client, clock, pauses }, { namespace: "" }, closed.signal);
      return all
        .flatMap((each) => remoteMachine(each) ?? [])
        .some((each) => isWaiting(each) && each.uid < uid);
    },
  });
  const remover = createRemover({
    ...shared,
    host: host.name,
    deleteTimeoutMs: settings.deleteTimeout,
    onStuck: health.noteStuck,
  });
  const creating = {
    ...shared,
    host,
    namespace,
    remover,
    addresses,
    made,
    pullTimeoutMs: settings.pullTimeout,
    isDeaf: health.isDeaf,
    pace,
    askRegistry: options.askRegistry,
  };
  const make = (spec: MachineSpec, signal: AbortSignal) => createMachine(creating, spec, signal);
  const creates = createCreates(make, closed.signal);
  listing.onList((snapshot) => forgetGone(made, snapshot));
  keepOneOfEach({ listing, creates, remover, made, closed: closed.signal, log });
  return { client, listing, health, addresses, remover, creates, pauses, clock, made, closed, callsEnd };
}

/** A create that was overtaken by its own repetition leaves two machines of one id. */
function keepOneOfEach(deps: {
  listing: Listing;
  creates: Creates;
  remover: Remover;
  made: ReadonlySet<string>;
  closed: AbortSignal;
  log: Log;
}): void {
  const { listing, creates, remover, made, closed, log } = deps;
  const isBusy = (id: string) => creates.isUnderWay(id) || remover.isRemoving(id);
  listing.onList(({ machines }) => {
    for (const [id, several] of machines) {
      const keep = pick(several, made);
      if (several.length < 2 || isBusy(id) || !keep) continue;
      log.warn(
        { machineId: id, keep: keep.uid, count: several.length },
        "several machines of one id, keeping one",
      );
      remover.remove(id, keep.uid, closed).catch((error: unknown) => {
        if (!closed.aborted)
          log.warn({ machineId: id, error: describeError(error) }, "a double machine stays");
      });
    }
  });
}

function forgetGone(made: Set<string>, { machines, number }: Snapshot): void {
  if (number % 100 !== 0) return;
  const listed = new Set([...machines.values()].flat().map(({ uid }) => uid));
  for (const uid of made) if (!listed.has(uid)) made.delete(uid);
}
