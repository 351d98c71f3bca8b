/**
 * A driver of this computer, made of what one hypervisor is (hypervisor.ts) and of what all of them have in common. Nothing is remembered
 * that the computer does not remember: what runs is asked of /proc (machine-processes.ts), what is left of the directories
 * (machine-directory.ts). So a restart is nothing special, whenever the death came. operations.ts creates and destroys;
 * running-machines.ts watches what runs; processes.ts starts and ends it, users.ts has as whom, capacity.ts how much of it there can be.
 */
import { mkdirSync, realpathSync } from "node:fs";
import { dirname } from "node:path";
import type { Clock } from "../../base/clock.ts";
import type { DiskLedger } from "../../base/disk-ledger.ts";
import type { Log } from "../../base/log.ts";
import { MIB_BYTES } from "../../base/units.ts";
import { LOCAL_HOST } from "../../domain/placement.ts";
import type { VmConfig } from "../config.ts";
import type { DriverMachine, LocalVmDriver, Probe } from "../driver.ts";
import { VmError } from "../errors.ts";
import { checkMachineId, unusableSize } from "../spec.ts";
import { freeForDisks, guardDisks, hostCapacity, hostResources } from "./capacity.ts";
import { createConsoles } from "./console-file.ts";
import type { Hypervisor, HypervisorHost } from "./hypervisor.ts";
import {
  createMachineDirectory,
  inside,
  type MachineFiles,
  machineFiles,
  readExit,
  socketPathExcess,
} from "./machine-directory.ts";
import { createMachineProcesses } from "./machine-processes.ts";
import { createOperations } from "./operations.ts";
import type { HostProcess } from "./processes.ts";
import { createRunningMachines } from "./running-machines.ts";
import { claimUserRange, createMachineUsers } from "./users.ts";

/**
 * User ids above everything that Debian, `/etc/subuid` (up to 600,100,000) and systemd's containers (up to 1,879,048,191)
 * hand out, and below 2^31, where some file systems stop.
 */
const FIRST_USER_ID = 1_900_000_000;
/** Empty after each boot, and root's alone. */
const USER_RANGES = "/run/firerunner/user-ids";

export interface LocalDriverOptions {
  /** All machines have their directories below it. Made when it is not there. */
  readonly directory: string;
  readonly settings: Pick<
    VmConfig,
    "cpuOvercommit" | "memoryReserve" | "maxMachines" | "minFreeDisk" | "overcommit"
  >;
  readonly machines: MachineSettings;
  readonly clock: Clock;
  readonly log: Log;
  /** What gives way to machines' disks; by default nothing. */
  readonly caches?: DiskLedger | undefined;
}

/** The settings of one driver that all local drivers have. */
interface MachineSettings {
  /** MiB of each machine's console that are kept. */
  readonly consoleLimit: number;
  readonly firstUserId?: number | undefined;
  readonly userIds: number;
}

export function createLocalDriver<Host extends HypervisorHost>(
  hypervisor: Hypervisor<Host>,
  options: LocalDriverOptions,
): LocalVmDriver {
  const { settings, clock, log, caches } = options;
  const { name, connect, isHypervisor, sizeLimits, overheadMib } = hypervisor;
  const machines = machinesDirectory(options.directory, hypervisor);
  const users = createMachineUsers(
    () => claimUsers(machines, name, options.machines),
    process.getuid?.() ?? 0,
    `vm.${name}`,
  );
  const processes = createMachineProcesses({ machines, users, clock, isHypervisor });
  const directory = createMachineDirectory(machines, users);
  const consoles = createConsoles(clock, options.machines.consoleLimit * MIB_BYTES);
  const running = createRunningMachines({ clock, log, consoles, connect });
  const guard = guardDisks(machines, { clock, log, caches, minFreeMib: settings.minFreeDisk }, running);

  function filesOf(id: string) {
    checkMachineId(id);
    return machineFiles(machines, id, hypervisor.files);
  }

  const operations = createOperations({
    ...{ hypervisor, users, processes, directory, running, clock, filesOf },
    minFreeDiskMib: settings.minFreeDisk,
    makeRoom: async () => void (await caches?.makeFree(machines, settings.minFreeDisk * MIB_BYTES)),
  });

  const inspection = createInspection({ processes, directory, running, operations, filesOf });

  return {
    name,
    host: LOCAL_HOST,
    labels: {},
    trouble: () => undefined,
    probe: async (image, signal) =>
      await probeWith(async () => {
        const host = await hypervisor.examine(image, (await users.known()).forTrials, signal);
        return await hypervisor.describe(host, signal);
      }),
    async capacity() {
      const diskMib = await freeForDisks(machines, inside.scratch, caches);
      return hostCapacity({ ...hostResources(), diskMib }, { ...settings, overheadMib });
    },
    sizeProblem: (size) => unusableSize(name, size, sizeLimits),
    mostImageDisks: hypervisor.mostImageDisks,
    relaySocket: (id) => filesOf(id).relay,
    create: operations.create,
    list: inspection.list,
    inspect: inspection.inspect,
    destroy: operations.destroy,
    console: (id, maxBytes) => consoles.tail(filesOf(id).console, maxBytes),
    followConsole: (id, signal) => consoles.follow(filesOf(id).console, () => running.isRunning(id), signal),
    onExit: running.onExit,
    close: async () => {
      guard.close();
      running.close();
    },
  };
}

interface InspectionDeps {
  readonly processes: ReturnType<typeof createMachineProcesses>;
  readonly directory: ReturnType<typeof createMachineDirectory>;
  readonly running: ReturnType<typeof createRunningMachines>;
  readonly operations: ReturnType<typeof createOperations>;
  readonly filesOf: (id: string) => MachineFiles;
}

/** What is there of machines: of those that run by their processes, of the others by what their directories hold. */
function createInspection({ processes, directory, running, operations, filesOf }: InspectionDeps) {
  async function describe(id: string, found: HostProcess | undefined): Promise<DriverMachine | undefined> {
    const files = filesOf(id);
    const creatingSince = operations.creatingSince(id);
    if (creatingSince !== undefined) return { id, status: { running: true, startedAt: creatingSince } };
    if (found) return { id, status: { running: true, startedAt: await running.watch(id, files, found) } };
    await running.settled(id);
    const exit = (await readExit(files)) ?? running.exitOf(id) ?? { exit: "lost" };
    return (await directory.exists(files)) ? { id, status: { running: false, ...exit } } : undefined;
  }

  return {
    async list(): Promise<readonly DriverMachine[]> {
      const ids = await directory.ids();
      const found = await processes.hypervisors();
      const all = await Promise.all(
        [...new Set([...ids, ...found.keys()])].map((id) => describe(id, found.get(id))),
      );
      return all.filter((machine) => machine !== undefined);
    },
    async inspect(id: string): Promise<DriverMachine | undefined> {
      checkMachineId(id);
      return await describe(id, (await processes.hypervisors()).get(id));
    },
  };
}

async function probeWith(
  examine: () => Promise<Omit<Extract<Probe, { usable: true }>, "usable">>,
): Promise<Probe> {
  try {
    return { usable: true, ...(await examine()) };
  } catch (error) {
    if (!(error instanceof VmError)) throw error;
    return { usable: false, problem: error.message, hint: error.hint ?? "see firerunner doctor" };
  }
}

async function claimUsers(
  owner: string,
  driver: string,
  { firstUserId: first, userIds: count }: MachineSettings,
) {
  const settings = `vm.${driver}`;
  try {
    return await claimUserRange({
      registry: USER_RANGES,
      owner,
      settings,
      first,
      lowest: FIRST_USER_ID,
      count,
    });
  } catch (cause) {
    if (cause instanceof VmError) throw cause;
    throw new VmError("vm_unusable", `claiming user ids for machines in ${USER_RANGES} failed`, {
      cause,
      hint: "started as root, FireRunner needs to write below /run",
    });
  }
}

/** The real path, because it marks processes: the same directory under another name must find them again. */
function machinesDirectory<Host extends HypervisorHost>(path: string, { files }: Hypervisor<Host>): string {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const machines = realpathSync(path);
  const excess = socketPathExcess(machines, files);
  if (excess === 0) return machines;
  throw new VmError(
    "vm_bad_spec",
    `the state directory ${dirname(path)} has too long a path for unix sockets`,
    {
      hint: `shorten its path by ${excess} characters, or choose another with the setting state`,
    },
  );
}
