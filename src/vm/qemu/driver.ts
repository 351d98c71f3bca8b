import { mkdirSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import { createKeyedMutex } from "../../base/keyed-mutex.ts";
import type { Log } from "../../base/log.ts";
import { MIB_BYTES } from "../../base/units.ts";
import type { VmConfig } from "../config.ts";
import type { DriverMachine, LocalVmDriver } from "../driver.ts";
import { VmError } from "../errors.ts";
import type { HostProcess } from "../local/processes.ts";
import { claimUserRange } from "../local/user-ranges.ts";
import { createMachineUsers, type MachineUsers } from "../local/users.ts";
import { checkMachineId, qemuSizeLimits, unusableSize } from "../spec.ts";
import { createConsoles } from "./console.ts";
import { capacityOf, guardDisks } from "./disks.ts";
import { readExit } from "./exit.ts";
import { type MachineFiles, machineFiles, socketPathExcess } from "./files.ts";
import { createIdentity } from "./identity.ts";
import { createMachineDirectory } from "./machine-directory.ts";
import { createRunningMachines } from "./machines.ts";
import { createOperations } from "./operations.ts";
import { probeHost } from "./probe.ts";

/**
 * User ids above everything that Debian, `/etc/subuid` (up to 600,100,000) and systemd's containers (up to 1,879,048,191)
 * hand out, and below 2^31, where some file systems stop.
 */
const FIRST_USER_ID = 1_900_000_000;
/** Empty after each boot, and root's alone. */
const USER_RANGES = "/run/firerunner/user-ids";

export interface QemuDriverOptions {
  /** Machines live in `machines` below it. */
  readonly stateDirectory: string;
  readonly settings: VmConfig;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Machines as QEMU processes of this computer. Nothing is remembered that the host does not remember: what runs is asked of
 * /proc, what is left of the directories. So a restart is nothing special, whenever the death came.
 */
export function createQemuDriver(options: QemuDriverOptions): LocalVmDriver {
  const { settings, clock, log } = options;
  const machines = machinesDirectory(options.stateDirectory);
  const users = createMachineUsers(() => claimUsers(machines, settings), process.getuid?.() ?? 0);
  const identity = createIdentity(machines, users, clock);
  const workplace = createMachineDirectory(machines, users);
  const consoles = createConsoles(clock, settings.qemu.consoleLimit * MIB_BYTES);
  const running = createRunningMachines(clock, log, consoles);
  const guard = guardDisks(machines, options, running);
  const accelerator = acceleratorOf(machines, settings, users);

  const filesOf = filesIn(machines);

  const operations = createOperations({
    ...{ settings, accelerator, identity, workplace, running, clock, filesOf },
  });

  async function describe(id: string, found: HostProcess | undefined): Promise<DriverMachine | undefined> {
    const files = filesOf(id);
    const creatingSince = operations.creatingSince(id);
    if (creatingSince !== undefined) return { id, status: { running: true, startedAt: creatingSince } };
    if (found) return { id, status: { running: true, startedAt: await running.watch(id, files, found) } };
    await running.settled(id);
    const exit = (await readExit(files)) ?? running.exitOf(id) ?? { exit: "lost" };
    return (await workplace.exists(files)) ? { id, status: { running: false, ...exit } } : undefined;
  }

  async function list(): Promise<readonly DriverMachine[]> {
    const ids = await workplace.ids();
    const found = await identity.hypervisors();
    const all = await Promise.all(
      [...new Set([...ids, ...found.keys()])].map((id) => describe(id, found.get(id))),
    );
    return all.filter((machine) => machine !== undefined);
  }

  async function inspect(id: string): Promise<DriverMachine | undefined> {
    checkMachineId(id);
    return await describe(id, (await identity.hypervisors()).get(id));
  }

  return {
    name: "qemu",
    host: "local",
    labels: {},
    trouble: () => undefined,
    probe: async (image, signal) => await probeHost(image, accelerator, signal),
    capacity: () => capacityOf(machines, settings),
    sizeProblem: (size) => unusableSize("qemu", size, qemuSizeLimits),
    relaySocket: (id) => filesOf(id).relay,
    create: operations.create,
    list,
    inspect,
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

async function claimUsers(owner: string, { qemu }: VmConfig) {
  const { firstUserId: first, userIds: count } = qemu;
  try {
    return await claimUserRange({ registry: USER_RANGES, owner, first, lowest: FIRST_USER_ID, count });
  } catch (cause) {
    if (cause instanceof VmError) throw cause;
    throw new VmError("vm_unusable", `claiming user ids for machines in ${USER_RANGES} failed`, {
      cause,
      hint: "started as root, FireRunner needs to write below /run",
    });
  }
}

function acceleratorOf(machines: string, { qemu }: VmConfig, users: MachineUsers) {
  const turns = createKeyedMutex();
  return async () => ({
    wanted: qemu.accelerator,
    trialBootMs: qemu.trialBoot,
    cachePath: join(dirname(machines), "qemu-accelerator.json"),
    turns,
    smokeUid: (await users.known()).forTrials,
  });
}

function filesIn(machines: string): (id: string) => MachineFiles {
  return (id) => {
    checkMachineId(id);
    return machineFiles(machines, id);
  };
}

/** The real path, because it marks processes: the same directory under another name must find them again. */
function machinesDirectory(stateDirectory: string): string {
  const path = join(stateDirectory, "machines");
  mkdirSync(path, { recursive: true, mode: 0o700 });
  const machines = realpathSync(path);
  const excess = socketPathExcess(machines);
  if (excess === 0) return machines;
  throw new VmError(
    "vm_bad_spec",
    `the state directory ${stateDirectory} has too long a path for unix sockets`,
    {
      hint: `shorten its path by ${excess} characters, or choose another with the setting state`,
    },
  );
}
