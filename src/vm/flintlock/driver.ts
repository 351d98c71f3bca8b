import { atMost } from "../../base/deadline.ts";
import { isMachineId } from "../../base/ids.ts";
import { createListeners } from "../../base/listeners.ts";
import { MINUTE_MS, SECOND_MS } from "../../base/units.ts";
import type { BootImage } from "../../domain/images.ts";
import type { DriverMachine, Probe, VmDriver } from "../driver.ts";
import { VmError } from "../errors.ts";
import { checkMachineId, checkSpec } from "../spec.ts";
import { createFlintlockClient } from "./client.ts";
import { pick } from "./creator.ts";
import { listAges, type Snapshot } from "./listing.ts";
import { createParts, type FlintlockDriverOptions, type Parts } from "./parts.ts";
import { isRunning, type RemoteMachine } from "./remote.ts";
import { flintlockSizeProblem } from "./size.ts";
import { watchEnds } from "./watch.ts";

/** What a create may take beside the pull: finding, asking, starting. */
const CREATE_MARGIN_MS = MINUTE_MS;
/** How long the end of the program waits for the answer to a call. */
const LAST_ANSWER_MS = 2 * SECOND_MS;

/** Our own looks come a little before a list is too old for others: so those of many hosts do not fall on one tick of the scheduler. */
const EARLY = 0.75;

/** Machines on one host of a fleet, made by its flintlockd. */
export function createFlintlockDriver(options: FlintlockDriverOptions): VmDriver {
  const { host, clock, settings } = options;
  const client = createFlintlockClient({ host, clock, callTimeoutMs: settings.callTimeout });
  const parts = createParts(client, options);
  const { creates, remover, health } = parts;
  const ends = createListeners<string>();
  const startPolling = createPolling(parts);
  watchEnds(parts.listing, remover.isRemoving, ends.emit);

  return {
    name: "flintlock",
    host: host.name,
    labels: host.labels,
    createLimitMs: settings.pullTimeout + CREATE_MARGIN_MS,
    probe: (image, signal) => probe(parts, image, signal),
    capacity: async () => host.capacity,
    trouble: () => parts.client.trouble() ?? health.trouble(),
    sizeProblem: flintlockSizeProblem,
    relaySocket(id) {
      checkMachineId(id);
      return undefined;
    },
    async create(spec, signal) {
      checkSpec(spec);
      const problem = flintlockSizeProblem(spec.size);
      if (problem !== undefined) throw new VmError("vm_bad_spec", `machine ${spec.id} cannot be: ${problem}`);
      await creates.create(spec, signal);
    },
    async list(signal) {
      return shown(await parts.listing.recent(maxAge(parts), signal), parts.made);
    },
    async inspect(id, signal) {
      checkMachineId(id);
      const snapshot = await parts.listing.after(parts.listing.mark(), signal);
      return shown(snapshot, parts.made).find((machine) => machine.id === id);
    },
    async destroy(id, signal) {
      checkMachineId(id);
      await creates.stop(id);
      await remover.remove(id, undefined, AbortSignal.any([signal, parts.closed.signal]));
    },
    // flintlockd keeps a console on its host and shows it to nobody.
    console: async () => "",
    async *followConsole() {},
    onExit(listener) {
      startPolling();
      return ends.add(listener);
    },
    close: () => close(parts),
  };
}

async function probe({ listing, addresses }: Parts, image: BootImage, signal: AbortSignal): Promise<Probe> {
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

function isBusy({ creates, remover }: Parts): boolean {
  return creates.count() + remover.count() > 0;
}

function maxAge(parts: Parts): number {
  return isBusy(parts) ? listAges.busyMs : listAges.idleMs;
}

/** Looks at the host again and again, from the first call on: how else would anybody hear of a machine that vanished. */
function createPolling(parts: Parts): () => void {
  const { listing, addresses, pauses, closed } = parts;
  let isPolling = false;

  async function poll(): Promise<void> {
    while (!closed.signal.aborted) {
      await listing.recent(maxAge(parts) * EARLY, closed.signal).catch(() => {});
      // Nobody else asks a host again that could not list for addresses: nothing is made there meanwhile.
      if (addresses.failing()) await addresses.check(closed.signal).catch(() => {});
      await pauses.pause(maxAge(parts), closed.signal).catch(() => {});
    }
  }

  return () => {
    if (!isPolling) void poll();
    isPolling = true;
  };
}

async function close({ creates, clock, closed, callsEnd, client }: Parts): Promise<void> {
  closed.abort(new Error("the driver is closed"));
  await atMost(clock, LAST_ANSWER_MS, creates.settled());
  callsEnd.abort(new Error("the driver is closed"));
  client.close();
}
