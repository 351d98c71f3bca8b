import { describeError, explainError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { isLocalHost, livesOn } from "../domain/placement.ts";
import type { EventStore, JobStore, Machine, MachineStore } from "../store/store.ts";
import type { VmDriver } from "../vm/driver.ts";
import { type ConsoleTailDeps, recordMemoryKills } from "./console-tail.ts";
import { SchedulerError } from "./errors.ts";
import type { GuestEndpoint, ImageSource } from "./ports.ts";
import type { Refusals } from "./refusals.ts";

export interface MachineDeps extends ConsoleTailDeps {
  readonly store: JobStore & MachineStore & EventStore;
  readonly images: ImageSource;
  readonly relay: GuestEndpoint;
  readonly log: Log;
  readonly refusals: Pick<Refusals, "note" | "noteMade">;
  /** Machines for which this process has the relay listen. */
  readonly listening: Set<string>;
}

/** What is done to machines. Each reads its row first: a round's decision may be older than the row. */
export interface MachineActions {
  create(machineId: string, host: string, signal: AbortSignal): Promise<void>;
  adopt(machineId: string, host: string): Promise<void>;
  destroy(machineId: string, host: string, signal: AbortSignal): Promise<void>;
  destroyUnknown(machineId: string, host: string, signal: AbortSignal): Promise<void>;
}

export function createMachineActions(deps: MachineDeps): MachineActions {
  const { store, relay, listening, log } = deps;

  const driverOf = (host: string, machineId: string) => driverAt(deps.fleet, host, machineId);

  async function listenFor(machineId: string, driver: VmDriver | undefined): Promise<void> {
    await relay.open(machineId, driver?.relaySocket(machineId));
    listening.add(machineId);
  }

  async function create(machineId: string, host: string, signal: AbortSignal): Promise<void> {
    const machine = await store.machine(machineId);
    if (machine?.state !== "creating") return;
    try {
      const driver = driverOf(host, machineId);
      const image = await deps.images.resolve(machine.image);
      await listenFor(machineId, driver);
      const link = () => relay.link(machineId);
      await driver.create({ id: machineId, size: machine.size, image, link }, signal);
    } catch (error) {
      // An interrupted create says nothing about the machine: the next start goes on with it.
      if (signal.reason instanceof SchedulerError && signal.reason.code === "scheduler_stopped") throw error;
      if (await giveUp(deps, machine, error)) deps.refusals.note(host, machine, error);
      return;
    }
    deps.refusals.noteMade(host, machine);
    await store.markBooting(machineId);
  }

  async function adopt(machineId: string, host: string): Promise<void> {
    const machine = await store.machine(machineId);
    if (!machine || machine.state === "stopping" || machine.state === "gone") return;
    // A host that was taken out of the configuration is not needed for its guests to come to the relay.
    const isElsewhere = !isLocalHost(machine.host);
    await listenFor(machineId, isElsewhere ? undefined : driverOf(host, machineId));
    const about = { jobId: machine.jobId ?? undefined, machineId };
    await store.note("machine:adopted", about, { state: machine.state });
  }

  async function destroy(machineId: string, host: string, signal: AbortSignal): Promise<void> {
    const machine = await store.machine(machineId);
    if (machine?.state !== "stopping") return;
    await recordMemoryKills(deps, machine, signal);
    try {
      await remove(deps, driverOf(host, machineId), machineId, signal);
    } catch (error) {
      const about = { jobId: machine.jobId ?? undefined, machineId };
      await store.note("machine:destroy-failed", about, { error: describeError(error) });
      throw error;
    }
    await store.markGone(machineId);
  }

  async function destroyUnknown(machineId: string, host: string, signal: AbortSignal): Promise<void> {
    const machine = await store.machine(machineId);
    if (livesOn(machine, host)) return;
    const driver = driverOf(host, machineId);
    // A list may be a moment old: look again before anything is destroyed.
    if ((await driver.inspect(machineId, signal)) === undefined) return;
    await store.note("machine:unknown", { machineId }, { host: driver.host });
    log.warn({ machineId, host }, "destroying a machine that the store does not know");
    // For one that belongs on another host the relay goes on to listen.
    if (machine && machine.state !== "gone") await driver.destroy(machineId, signal);
    else await remove(deps, driver, machineId, signal);
  }

  return { create, adopt, destroy, destroyUnknown };
}

function driverAt(fleet: MachineDeps["fleet"], host: string, machineId: string): VmDriver {
  const driver = fleet.hosts().get(host);
  if (driver) return driver;
  throw new SchedulerError(
    "scheduler_no_driver",
    `machine ${machineId} is on ${host}, which is not configured`,
    {
      hint: `configure ${host} again, so that its machines can be removed; if it is gone for good: firerunner hosts forget ${host}`,
    },
  );
}

/** Stops a machine that could not be started; its job notices and gets another. Returns whether it was still wanted. */
async function giveUp({ store, log }: MachineDeps, machine: Machine, error: unknown): Promise<boolean> {
  const words = explainError(error);
  const about = { jobId: machine.jobId ?? undefined, machineId: machine.id };
  // Whose guest has spoken runs, whatever became of the host's answer: it may have taken its job already.
  if ((await store.machine(machine.id))?.state !== "creating") {
    log.warn({ ...about, error: words }, "a host did not tell that a machine runs");
    return false;
  }
  if (!(await store.stopMachine(machine.id, `it could not be started: ${words}`))) return false;
  await store.note("machine:create-failed", about, { error: words });
  log.warn({ ...about, error: words }, "machine could not be started");
  return true;
}

/** The relay is closed first: what a guest says from now on changes nothing. */
async function remove(deps: MachineDeps, driver: VmDriver, machineId: string, signal: AbortSignal) {
  await deps.relay.close(machineId);
  deps.listening.delete(machineId);
  await driver.destroy(machineId, signal);
}
