/**
 * A driver whose machines exist in memory, with faults on demand, for tests, simulations and loads. It keeps the promises of the port, as
 * driver.contract.ts holds them. What outlives the program, machines and their consoles, is in host.ts: a driver made anew on the same
 * host finds them, as after a restart. A test says there what fails, how, and when a machine ends. As a pool's driver (`fake`) it runs no
 * job: its machines never ask for one.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { createListeners } from "../../base/listeners.ts";
import type { Labels } from "../../domain/placement.ts";
import type { Capacity, Size } from "../../domain/size.ts";
import type {
  DriverMachine,
  ExitKind,
  LocalVmDriver,
  MachineSpec,
  Probe,
  RelayLink,
  VmDriver,
} from "../driver.ts";
import { VmError } from "../errors.ts";
import { checkImageDisks, checkMachineId, checkSpec, fakeSizeLimits, unusableSize } from "../spec.ts";
import { type CreateFault, type FakeHost, followFakeConsole } from "./host.ts";

const usable: Probe = {
  usable: true,
  accelerator: "none",
  version: "1",
  note: "machines exist in memory",
};

/** As many as QEMU's, on the hosts that stand for this computer. */
const FAKE_IMAGE_DISKS = 16;

interface FakeDriverOptions {
  readonly host: FakeHost;
  readonly capacity?: Capacity;
  /** Where relay sockets lie. Without it nothing touches the disk, and nobody can listen on them. */
  readonly directory?: string;
  /** What this host refuses beside what no host can do; a test may refuse odd numbers of CPUs, as some hypervisors do. */
  readonly sizeProblem?: (size: Size) => string | undefined;
}

const roomForAll: Capacity = { cpus: 1_000, memoryMib: 1_000_000, machines: 1_000, diskMib: 100_000_000 };

/** As the driver of this computer. */
export function createFakeDriver(options: FakeDriverOptions): LocalVmDriver {
  const { directory } = options;
  return {
    ...driverOn(options, false),
    relaySocket(id) {
      checkMachineId(id);
      return join(directory ?? "/nonexistent", id, "relay.sock");
    },
  };
}

/** The same as a host of a fleet: its machines come to the relay by their links. */
export function createFakeFleetDriver(
  options: Omit<FakeDriverOptions, "directory"> & { readonly name: string; readonly labels?: Labels },
): VmDriver {
  return {
    ...driverOn(options, true),
    host: options.name,
    labels: options.labels ?? {},
    relaySocket(id) {
      checkMachineId(id);
      return undefined;
    },
  };
}

function driverOn(options: FakeDriverOptions, wantsLink: boolean): Omit<VmDriver, "relaySocket"> {
  const { host, capacity = roomForAll, directory } = options;
  const exits = createListeners<string>();
  const closed = new AbortController();
  const making = createInFlightCreates(host, closed.signal, wantsLink);
  const stopHearing = host.onEnd(exits.emit);

  const mostImageDisks = wantsLink ? 0 : FAKE_IMAGE_DISKS;

  async function create(spec: MachineSpec, signal: AbortSignal): Promise<void> {
    checkSpec(spec);
    checkImageDisks("fake", spec, mostImageDisks);
    await host.faults.reach?.({ name: "create", id: spec.id }, AbortSignal.any([signal, closed.signal]));
    const status = host.status(spec.id);
    const exists = status && (status.running || status.exit !== "lost");
    if (!exists) await making.create(spec, signal);
  }

  async function destroy(id: string, signal: AbortSignal): Promise<void> {
    checkMachineId(id);
    signal.throwIfAborted();
    await making.stop(id);
    await host.faults.reach?.({ name: "destroy", id }, AbortSignal.any([signal, closed.signal]));
    const fault = host.faults.destroy?.(id);
    if (fault) throw fault;
    host.remove(id);
    if (directory !== undefined) await rm(join(directory, id), { recursive: true, force: true });
  }

  function describe(id: string): DriverMachine | undefined {
    const status = host.status(id);
    if (!status) return undefined;
    // A machine being made is not one that was lost.
    return { id, status: making.isUnderWay(id) ? { running: true, startedAt: host.clock.now() } : status };
  }

  async function list(signal: AbortSignal): Promise<readonly DriverMachine[]> {
    await host.faults.reach?.({ name: "list" }, AbortSignal.any([signal, closed.signal]));
    const fault = host.faults.list?.();
    if (fault) throw fault;
    return host.ids().flatMap((id) => describe(id) ?? []);
  }

  return {
    name: "fake",
    host: "local",
    labels: {},
    trouble: () => undefined,
    probe: async () => usable,
    capacity: async () => capacity,
    sizeProblem: (size) => unusableSize("fake", size, fakeSizeLimits) ?? options.sizeProblem?.(size),
    mostImageDisks,
    create,
    list,
    async inspect(id, signal) {
      checkMachineId(id);
      await host.faults.reach?.({ name: "inspect", id }, AbortSignal.any([signal, closed.signal]));
      return describe(id);
    },
    destroy,
    console: async (id, maxBytes) => lastBytes(host.console(id), maxBytes),
    followConsole: (id, signal) => followFakeConsole(host, id, AbortSignal.any([signal, closed.signal])),
    onExit: exits.add,
    async close() {
      stopHearing();
      closed.abort();
    },
  };
}

function lastBytes(text: string, maxBytes: number): string {
  const bytes = Buffer.from(text);
  return bytes.subarray(Math.max(0, bytes.length - maxBytes)).toString("utf8");
}

/** The creates under way of one driver: at most one per machine. */
interface InFlightCreates {
  /** Joins the one under way for this machine, if there is one. */
  create(spec: MachineSpec, signal: AbortSignal): Promise<void>;
  /** Ends the create under way, if there is one, and waits for its end. */
  stop(id: string): Promise<void>;
  isUnderWay(id: string): boolean;
}

function createInFlightCreates(host: FakeHost, closed: AbortSignal, wantsLink: boolean): InFlightCreates {
  const underWay = new Map<string, { done: Promise<void>; abort: AbortController }>();

  async function make(spec: MachineSpec, signal: AbortSignal): Promise<void> {
    const fault = host.faults.create?.(spec) ?? {};
    signal.throwIfAborted();
    const link = wantsLink ? await linkOf(spec) : undefined;
    host.leaveHalfMade(spec.id);
    if (fault.isUnanswered) host.start(spec, link);
    await suffer(fault, signal);
    host.start(spec, link);
    if (fault.dieAfterMs !== undefined) endAfter(spec.id, fault.dieAfterMs, fault.exit ?? "killed");
  }

  async function suffer(fault: CreateFault, signal: AbortSignal): Promise<void> {
    if (fault.hang || fault.isUnanswered) await aborted(signal);
    if (fault.delayMs !== undefined) await host.clock.sleep(fault.delayMs, signal);
    if (fault.fail) throw fault.fail;
  }

  function endAfter(id: string, ms: number, exit: ExitKind): void {
    void host.clock.sleep(ms).then(() => host.end(id, exit));
  }

  async function create(spec: MachineSpec, signal: AbortSignal): Promise<void> {
    const other = underWay.get(spec.id);
    if (other) return await other.done;
    const abort = new AbortController();
    const done = make(spec, AbortSignal.any([signal, abort.signal, closed])).catch((cause: unknown) => {
      if (cause instanceof VmError) throw cause;
      const message = `creating machine ${spec.id} was stopped`;
      throw new VmError("vm_create_failed", message, { cause, retryable: true });
    });
    underWay.set(spec.id, { done, abort });
    await done.finally(() => underWay.delete(spec.id));
  }

  return {
    create,
    stop: async (id) => {
      const create = underWay.get(id);
      create?.abort.abort();
      await create?.done.catch(() => {});
    },
    isUnderWay: (id) => underWay.has(id),
  };
}

async function linkOf({ id, link }: MachineSpec): Promise<RelayLink> {
  if (!link) throw new VmError("vm_bad_spec", `machine ${id} has no way to the relay`);
  return await link();
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
