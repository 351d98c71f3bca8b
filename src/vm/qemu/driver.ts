/**
 * Machines as QEMU processes of this computer: what QEMU adds to the drivers' common half. local/driver.ts tells that half: directories,
 * users, processes, disks and consoles, none of which knows QEMU; it asks for a `Hypervisor` (local/hypervisor.ts), which is made here.
 *
 * accelerator.ts finds out whether this computer can run an image, with KVM or by emulation. arguments.ts has the command line that is one
 * machine: no network but one address, behind which socat leads to the relay's socket. control.ts is the monitor, by which QEMU tells how
 * a machine ends.
 */
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import type { DiskLedger } from "../../base/disk-ledger.ts";
import { createKeyedMutex } from "../../base/keyed-mutex.ts";
import type { Log } from "../../base/log.ts";
import type { VmConfig } from "../config.ts";
import type { LocalVmDriver } from "../driver.ts";
import { VmError } from "../errors.ts";
import { createLocalDriver } from "../local/driver.ts";
import type { Hypervisor, HypervisorHost } from "../local/hypervisor.ts";
import { checkImageAccess } from "../local/users.ts";
import { qemuSizeLimits } from "../spec.ts";
import {
  type Choice,
  chooseAccelerator,
  findPrograms,
  type Programs,
  qemuVersion,
  tscKhz,
} from "./accelerator.ts";
import { type Architecture, architectures, qemuArguments, qemuFiles } from "./arguments.ts";
import { connectControl } from "./control.ts";

/**
 * The hypervisor's own memory beside the guest's. Measured under emulation, which takes most: 52 MiB when idle and 15 more when
 * the translator's buffer is full, beside 68 MiB of program and kernel that all machines share.
 */
const OVERHEAD_MIB = 80;

/** A microvm has 24 places for devices: network, randomness, scratch disk and an image's own layers take 5 today. */
const MOST_IMAGE_DISKS = 16;

export interface QemuDriverOptions {
  /** Machines live in `machines` below it. */
  readonly stateDirectory: string;
  readonly settings: VmConfig;
  readonly clock: Clock;
  readonly log: Log;
  readonly caches?: DiskLedger | undefined;
}

export function createQemuDriver(options: QemuDriverOptions): LocalVmDriver {
  const { stateDirectory, settings, clock, log, caches } = options;
  return createLocalDriver(qemu(stateDirectory, settings.qemu), {
    ...{ settings, clock, log, caches, machines: settings.qemu },
    directory: join(stateDirectory, "machines"),
  });
}

interface QemuHost extends HypervisorHost {
  readonly architecture: Architecture;
  readonly programs: Programs;
  readonly choice: Choice;
}

function qemu(stateDirectory: string, settings: VmConfig["qemu"]): Hypervisor<QemuHost> {
  const options = {
    wanted: settings.accelerator,
    trialBootMs: settings.trialBoot,
    cachePath: join(stateDirectory, "qemu-accelerator.json"),
    trialBoots: createKeyedMutex(),
  };
  return {
    name: "qemu",
    files: qemuFiles,
    overheadMib: OVERHEAD_MIB,
    sizeLimits: qemuSizeLimits,
    mostImageDisks: MOST_IMAGE_DISKS,
    async examine(image, trialUid, signal) {
      const architecture = architectures[image.architecture];
      if (!architecture) {
        const known = Object.keys(architectures).join(" or ");
        throw new VmError("vm_unusable", `the image is for ${image.architecture}, not for ${known}`);
      }
      const programs = await findPrograms(architecture);
      await checkImageAccess(image, trialUid !== undefined);
      const choice = await chooseAccelerator(
        { ...options, trialUid },
        { image, architecture, programs },
        signal,
      );
      return { architecture, programs, choice, deviceGid: choice.deviceGid };
    },
    async describe({ programs, choice: { accelerator, note } }, signal) {
      const version = await qemuVersion(programs.qemu, signal);
      return { accelerator, version, ...(note === undefined ? {} : { note }) };
    },
    async command(spec, { architecture, programs, choice: { accelerator } }) {
      const plan = { spec, architecture, accelerator, tscKhz: await tscKhz(), socat: programs.socat };
      return [programs.qemu, ...qemuArguments(plan)];
    },
    isHypervisor: (args, id) => args.includes("-name") && args[args.indexOf("-name") + 1] === id,
    connect: connectControl,
  };
}
