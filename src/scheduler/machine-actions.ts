import { describeError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { Machine, Store } from "../store/store.ts";
import type { VmDriver } from "../vm/driver.ts";
import { SchedulerError } from "./errors.ts";
import type { GuestDoor, ImageSource } from "./ports.ts";

export interface MachineDeps {
  readonly store: Store;
  readonly drivers: ReadonlyMap<string, VmDriver>;
  readonly images: ImageSource;
  readonly door: GuestDoor;
  readonly log: Log;
  /** Machines for which this process has the relay listen. */
  readonly doors: Set<string>;
}

/** What is done to machines. Each reads its row first: a round's decision may be older than the row. */
export interface MachineActions {
  create(machineId: string, driverName: string, signal: AbortSignal): Promise<void>;
  adopt(machineId: string, driverName: string): Promise<void>;
  destroy(machineId: string, driverName: string, signal: AbortSignal): Promise<void>;
  destroyUnknown(machineId: string, driverName: string, signal: AbortSignal): Promise<void>;
}

export function createMachineActions(deps: MachineDeps): MachineActions {
  const { store, door, doors, log } = deps;

  const driverOf = (name: string, machineId: string) => driverNamed(deps.drivers, name, machineId);

  async function openDoor(machineId: string, driver: VmDriver): Promise<void> {
    await door.open(machineId, driver.relaySocket(machineId));
    doors.add(machineId);
  }

  async function create(machineId: string, driverName: string, signal: AbortSignal): Promise<void> {
    const machine = await store.machine(machineId);
    if (machine?.state !== "creating") return;
    try {
      const driver = driverOf(driverName, machineId);
      const image = await deps.images.resolve(machine.image);
      await openDoor(machineId, driver);
      const link = () => door.link(machineId);
      await driver.create({ id: machineId, size: machine.size, image, link }, signal);
    } catch (error) {
      // An interrupted create says nothing about the machine: the next start goes on with it.
      if (signal.reason instanceof SchedulerError && signal.reason.code === "scheduler_stopped") throw error;
      await giveUp(deps, machine, error);
      return;
    }
    await store.markBooting(machineId);
  }

  async function adopt(machineId: string, driverName: string): Promise<void> {
    const machine = await store.machine(machineId);
    if (!machine || machine.state === "stopping" || machine.state === "gone") return;
    await openDoor(machineId, driverOf(driverName, machineId));
    const about = { jobId: machine.jobId ?? undefined, machineId };
    await store.note("machine:adopted", about, { state: machine.state });
  }

  async function destroy(machineId: string, driverName: string, signal: AbortSignal): Promise<void> {
    const machine = await store.machine(machineId);
    if (machine?.state !== "stopping") return;
    try {
      await remove(deps, driverOf(driverName, machineId), machineId, signal);
    } catch (error) {
      const about = { jobId: machine.jobId ?? undefined, machineId };
      await store.note("machine:destroy-failed", about, { error: describeError(error) });
      throw error;
    }
    await store.markGone(machineId);
  }

  async function destroyUnknown(machineId: string, driverName: string, signal: AbortSignal): Promise<void> {
    const machine = await store.machine(machineId);
    if (machine && machine.state !== "gone") return;
    const driver = driverOf(driverName, machineId);
    // A list may be a moment old: look again before anything is destroyed.
    if ((await driver.inspect(machineId, signal)) === undefined) return;
    await store.note("machine:unknown", { machineId }, { host: driver.host });
    log.warn({ machineId, driver: driverName }, "destroying a machine that the store does not know");
    await remove(deps, driver, machineId, signal);
  }

  return { create, adopt, destroy, destroyUnknown };
}

function driverNamed(drivers: MachineDeps["drivers"], name: string, machineId: string): VmDriver {
  const driver = drivers.get(name);
  if (driver) return driver;
  throw new SchedulerError("scheduler_no_driver", `machine ${machineId} belongs to the driver ${name}`, {
    hint: `configure a pool with the driver ${name} again, so that its machines can be removed`,
  });
}

/** Stops a machine that could not be started; its job notices and gets another. */
async function giveUp({ store, log }: MachineDeps, machine: Machine, error: unknown): Promise<void> {
  const words = describeError(error);
  const about = { jobId: machine.jobId ?? undefined, machineId: machine.id };
  if (!(await store.stopMachine(machine.id, `it could not be started: ${words}`))) return;
  await store.note("machine:create-failed", about, { error: words });
  log.warn({ ...about, error: words }, "machine could not be started");
}

/** The door first: what a guest says from now on changes nothing. */
async function remove(deps: MachineDeps, driver: VmDriver, machineId: string, signal: AbortSignal) {
  await deps.door.close(machineId);
  deps.doors.delete(machineId);
  await driver.destroy(machineId, signal);
}
