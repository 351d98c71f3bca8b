/**
 * Machines on one host of a fleet, made by the flintlockd there. The daemon is asked for lists (listing.ts) and otherwise only for
 * creates (creator.ts) and deletes (remover.ts): what it shows of a machine is all that is known of it, and what nobody is told is
 * concluded from what moves (health.ts). A call goes through client.ts, which leaves a failing host alone, to channel.ts, one
 * connection to one address. What a failed call means is in failures.ts.
 */

import type { Clock } from "../../base/clock.ts";
import { atMost } from "../../base/deadline.ts";
import { describeError } from "../../base/errors.ts";
import { isMachineId } from "../../base/ids.ts";
import { createListeners } from "../../base/listeners.ts";
import type { Log } from "../../base/log.ts";
import { MINUTE_MS, SECOND_MS } from "../../base/units.ts";
import type { AskRegistry, BootImage } from "../../domain/images.ts";
import type { DriverMachine, MachineSpec, Probe, VmDriver } from "../driver.ts";
import { VmError } from "../errors.ts";
import { checkImageDisks, checkMachineId, checkSpec } from "../spec.ts";
import { type Addresses, createAddresses } from "./addresses.ts";
import { createFlintlockClient, type FlintlockClient, type GuardedClient, guardClient } from "./client.ts";
import type { FlintlockHost } from "./config.ts";
import { type FlintlockConfig, flintlockSizeProblem } from "./config.ts";
import { createMachine, pick } from "./creator.ts";
import { createHealth, createPace, type Health } from "./health.ts";
import {
  createListing,
  createPauses,
  isRunning,
  isWaiting,
  type Listing,
  listAges,
  listPatiently,
  type Pauses,
  type RemoteMachine,
  remoteMachine,
  type Snapshot,
  watchEnds,
} from "./listing.ts";
import { createInFlightCreates, createRemover, type InFlightCreates, type Remover } from "./remover.ts";

/** What a create may take beside the pull: finding, asking, starting. */
const CREATE_MARGIN_MS = MINUTE_MS;
/** How long the end of the program waits for the answer to a call. */
const LAST_ANSWER_MS = 2 * SECOND_MS;
/** Our own looks come a little before a list is too old for others: so those of many hosts do not fall on one tick of the scheduler. */
const EARLY = 0.75;

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

/** Disks are files of this computer, and its hosts take OCI images. */
const MOST_IMAGE_DISKS = 0;

/** Machines on one host of a fleet, made by its flintlockd. */
export function createFlintlockDriver(options: FlintlockDriverOptions): VmDriver {
  const { host, clock, settings } = options;
  const client = createFlintlockClient({ host, clock, callTimeoutMs: settings.callTimeout });
  const internals = assemble(client, options);
  const { creates, remover, health } = internals;
  const ends = createListeners<string>();
  const startPolling = createPolling(internals);
  watchEnds(internals.listing, remover.isRemoving, ends.emit);

  return {
    name: "flintlock",
    host: host.name,
    labels: host.labels,
    createLimitMs: settings.pullTimeout + CREATE_MARGIN_MS,
    probe: (image, signal) => probe(internals, image, signal),
    capacity: async () => host.capacity,
    trouble: () => internals.client.trouble() ?? health.trouble(),
    sizeProblem: flintlockSizeProblem,
    mostImageDisks: MOST_IMAGE_DISKS,
    relaySocket(id) {
      checkMachineId(id);
      return undefined;
    },
    async create(spec, signal) {
      checkSpec(spec);
      checkImageDisks("flintlock", spec, MOST_IMAGE_DISKS);
      const problem = flintlockSizeProblem(spec.size);
      if (problem !== undefined) throw new VmError("vm_bad_spec", `machine ${spec.id} cannot be: ${problem}`);
      await creates.create(spec, signal);
    },
    async list(signal) {
      return shown(await internals.listing.recent(maxAge(internals), signal), internals.made);
    },
    async inspect(id, signal) {
      checkMachineId(id);
      const snapshot = await internals.listing.after(internals.listing.mark(), signal);
      return shown(snapshot, internals.made).find((machine) => machine.id === id);
    },
    async destroy(id, signal) {
      checkMachineId(id);
      await creates.stop(id);
      await remover.remove(id, undefined, AbortSignal.any([signal, internals.closed.signal]));
    },
    // flintlockd keeps a console on its host and shows it to nobody.
    console: async () => "",
    async *followConsole() {},
    onExit(listener) {
      startPolling();
      return ends.add(listener);
    },
    close: () => close(internals),
  };
}

async function probe(
  { listing, addresses }: Internals,
  image: BootImage,
  signal: AbortSignal,
): Promise<Probe> {
  if (!image.published) {
    const problem = "the image is on this computer only, and hosts of a fleet pull it from a registry";
    return { usable: false, problem, hint: "firerunner image push REGISTRY/NAME" };
  }
  try {
    await listing.after(listing.mark(), signal);
    await addresses.check(signal);
    return { usable: true, accelerator: "kvm", version: "flintlockd" };
  } catch (error) {
    if (!(error instanceof VmError)) throw error;
    return { usable: false, problem: error.message, hint: error.hint ?? "look at flintlockd on the host" };
  }
}

/** Machines of ours, one for each id. */
function shown({ machines, askedAt }: Snapshot, made: ReadonlySet<string>): DriverMachine[] {
  return [...machines].flatMap(([id, several]) => {
    const machine = pick(several, made);
    if (!machine || !isMachineId(id)) return [];
    return { id, status: statusOf(machine, askedAt) };
  });
}

function statusOf(machine: RemoteMachine, askedAt: number): DriverMachine["status"] {
  if (isRunning(machine)) return { running: true, startedAt: machine.madeAt ?? askedAt };
  return { running: false, exit: machine.state === "failed" ? "crash" : "killed" };
}

function isBusy({ creates, remover }: Internals): boolean {
  return creates.count() + remover.count() > 0;
}

function maxAge(internals: Internals): number {
  return isBusy(internals) ? listAges.busyMs : listAges.idleMs;
}

/** Looks at the host again and again, from the first call on: how else would anybody hear of a machine that vanished. */
function createPolling(internals: Internals): () => void {
  const { listing, addresses, pauses, closed } = internals;
  let isPolling = false;

  async function poll(): Promise<void> {
    while (!closed.signal.aborted) {
      await listing.recent(maxAge(internals) * EARLY, closed.signal).catch(() => {});
      // Nobody else asks a host again that could not list for addresses: nothing is made there meanwhile.
      if (addresses.failing()) await addresses.check(closed.signal).catch(() => {});
      await pauses.pause(maxAge(internals), closed.signal).catch(() => {});
    }
  }

  return () => {
    if (!isPolling) void poll();
    isPolling = true;
  };
}

async function close({ creates, clock, closed, callsEnd, client }: Internals): Promise<void> {
  closed.abort(new Error("the driver is closed"));
  await atMost(clock, LAST_ANSWER_MS, creates.settled());
  callsEnd.abort(new Error("the driver is closed"));
  client.close();
}

/** What a driver of one host is made of. */
interface Internals {
  readonly client: GuardedClient;
  readonly listing: Listing;
  readonly health: Health;
  readonly addresses: Addresses;
  readonly remover: Remover;
  readonly creates: InFlightCreates;
  readonly pauses: Pauses;
  readonly clock: Clock;
  /** The machines that are known to be ours, by uid: of several with one id they are the ones to keep. */
  readonly made: ReadonlySet<string>;
  /** Ends all waiting. */
  readonly closed: AbortController;
  /** Ends the calls that have an effect; later than the waiting, so that their answer may still come. */
  readonly callsEnd: AbortController;
}

function assemble(unguarded: FlintlockClient, options: FlintlockDriverOptions): Internals {
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
  const creates = createInFlightCreates(make, closed.signal);
  listing.onList((snapshot) => forgetGone(made, snapshot));
  keepOneOfEach({ listing, creates, remover, made, closed: closed.signal, log });
  return { client, listing, health, addresses, remover, creates, pauses, clock, made, closed, callsEnd };
}

/** A create that was overtaken by its own repetition leaves two machines of one id. */
function keepOneOfEach(deps: {
  listing: Listing;
  creates: InFlightCreates;
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
