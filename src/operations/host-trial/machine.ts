import { withDeadline } from "../../base/deadline.ts";
import { describeError } from "../../base/errors.ts";
import { newMachineId } from "../../base/ids.ts";
import type { Log } from "../../base/log.ts";
import { formatDuration } from "../../base/units.ts";
import type { BootImage } from "../../domain/images.ts";
import type { TrialStep } from "../../views/trial-api.ts";
import type { RelayLink, VmDriver } from "../../vm/driver.ts";
import type { TrialEndpoint } from "./endpoint.ts";
import { type Found, type StepContext, step } from "./step.ts";

/** The least that flintlockd takes. */
const size = { cpus: 1, memoryMib: 1_024, diskMib: 1_024 };
const LOOK_MS = 50;
/** How long what was made may take to go once nobody waits for the trial any more. */
const QUIET_REMOVAL_MS = 120_000;

export interface MachineTrialOptions extends StepContext {
  readonly driver: VmDriver;
  readonly image: BootImage;
  readonly endpoint: TrialEndpoint;
  /** How long a guest may take until it speaks. */
  readonly bootDeadlineMs: number;
  readonly log: Log;
}

/** A machine under trial. */
interface Tried extends MachineTrialOptions {
  readonly id: string;
  /** When its create was really sent. */
  sentAt: number | undefined;
}

/** Makes a machine, hears its guest, and removes it. It is removed whatever happens, also when nobody asks for further steps. */
export async function* tryMachine(options: MachineTrialOptions): AsyncGenerator<TrialStep> {
  const tried: Tried = { ...options, id: newMachineId(), sentAt: undefined };
  let isRemovalTried = false;
  try {
    if (yield* step("create", tried, () => create(tried)))
      yield* step("guest", tried, () => hearGuest(tried));
    const removed = yield* step("delete", tried, () => remove(tried));
    isRemovalTried = true;
    if (removed) yield* step("gone", tried, () => look(tried));
  } finally {
    if (!isRemovalTried) await removeQuietly(tried);
    await options.endpoint.close(tried.id);
  }
}

async function create(tried: Tried): Promise<Found<true>> {
  const { driver, endpoint, image, id, clock, signal } = tried;
  const link = async (): Promise<RelayLink> => {
    const way = await endpoint.open(id);
    tried.sentAt = clock.now();
    return way;
  };
  await driver.create({ id, size, image, link }, signal);
  return { value: true, message: `machine ${id} was made: 1 CPU, 1 GiB` };
}

async function hearGuest(tried: Tried): Promise<Found<true>> {
  const { endpoint, id, clock, signal, bootDeadlineMs } = tried;
  if (!endpoint.isOpen) {
    const message =
      "not tried: the relay listens nowhere on the network, so the guest has nobody to speak to";
    return { level: "skip", value: true, message, hint: "set relay.listen and relay.advertise" };
  }
  const sentAt = tried.sentAt ?? clock.now();
  while (clock.now() - sentAt < bootDeadlineMs) {
    const firstWordAt = endpoint.firstWordAt(id);
    if (firstWordAt !== undefined) {
      const relayMs = Math.round(firstWordAt - sentAt);
      const message = `spoke to the relay ${formatDuration(relayMs)} after the create`;
      return { value: true, message, relayMs };
    }
    await clock.sleep(LOOK_MS, signal);
  }
  return {
    level: "fail",
    message: `has not spoken to the relay at ${endpoint.address} within ${formatDuration(bootDeadlineMs)} (scheduler.bootDeadline)`,
    hint: "From the host's bridge this address must be reachable: look at relay.advertise, routes and firewalls, at the addresses of vm.flintlock.hosts.NAME.network or the bridge's DHCP, and at firecracker.stdout of the machine under /var/lib/flintlock/vm on the host, while a trial runs.",
  };
}

async function remove({ driver, id, signal }: Tried): Promise<Found<true>> {
  await driver.destroy(id, signal);
  return { value: true, message: `machine ${id} was deleted` };
}

async function look({ driver, signal }: Tried): Promise<Found<true>> {
  const left = await driver.list(signal);
  if (left.length === 0) return { value: true, message: "the host lists nothing of this trial any more" };
  const ids = left.map(({ id }) => id).join(", ");
  return {
    level: "fail",
    message: `the host still lists ${ids}`,
    hint: "run the trial again: it begins by removing what is left; if it stays, restart flintlockd",
  };
}

async function removeQuietly({ driver, id, log, clock }: Tried): Promise<void> {
  try {
    await withDeadline(clock, { limitMs: QUIET_REMOVAL_MS }, (late) => driver.destroy(id, late));
  } catch (error) {
    log.warn(
      { machineId: id, host: driver.host, problem: describeError(error) },
      "a trial's machine is left; the next trial of this host removes it",
    );
  }
}
