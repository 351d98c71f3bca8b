/**
 * What a hypervisor of this computer is to the drivers' common half: how to find out whether it can run an image, the command that is one
 * machine, and the connection through which it tells how the machine ends. All else (directories, disks, users, processes, consoles,
 * exits) is in this folder once, and `createLocalDriver` makes a driver of both.
 */
import type { BootImage } from "../../domain/images.ts";
import type { Exit, ExitKind, MachineSpec } from "../driver.ts";
import type { SizeLimits } from "../spec.ts";

export interface Hypervisor<Host extends HypervisorHost> {
  /** The driver's name, and that of its settings below `vm`. */
  readonly name: string;
  readonly files: HypervisorFiles;
  /** Memory that one takes beside its guest's, in MiB. */
  readonly overheadMib: number;
  readonly sizeLimits: SizeLimits;
  /** How many image disks a machine can have. */
  readonly mostImageDisks: number;
  /**
   * Everything that must be known before machines of an image can be started. `trialUid`: the user for trial boots, when machines have
   * users of their own. Throws a VmError that says what is missing and how to get it.
   */
  examine(image: BootImage, trialUid: number | undefined, signal: AbortSignal): Promise<Host>;
  /** What the probe tells of a computer that was examined. Throws a VmError as `examine` does. */
  describe(host: Host, signal: AbortSignal): Promise<HypervisorFacts>;
  /**
   * The program and its arguments. It runs in the machine's directory, where the names of `inside` and `files` are, and has the image
   * disks open for reading, as descriptors from FIRST_IMAGE_DISK on.
   */
  command(spec: MachineSpec, host: Host): Promise<readonly string[]>;
  /** Whether a command line is that of the machine's hypervisor, and not of a helper that it has started. */
  isHypervisor(args: readonly string[], id: string): boolean;
  /** Connects to its control socket. Rejects when nobody answers there before the signal aborts. */
  connect(path: string, signal: AbortSignal): Promise<Control>;
}

/** The descriptor of a machine's first image disk in its hypervisor; the others follow it. */
export const FIRST_IMAGE_DISK = 3;

/** Names below a machine's directory. */
export interface HypervisorFiles {
  /** What the hypervisor itself has to say. */
  readonly log: string;
  /** Its control socket, below `run`. */
  readonly control: string;
}

/** What the common half needs of what `examine` found out. */
export interface HypervisorHost {
  readonly programs: { readonly mkfs: string; readonly setpriv: string; readonly prlimit: string };
  /** The group that opens the device of its acceleration, where it takes one. */
  readonly deviceGid: number | undefined;
}

interface HypervisorFacts {
  readonly accelerator: string;
  readonly version: string;
  /** Such as why machines are emulated. */
  readonly note?: string;
}

/** The only control connection to one hypervisor. */
export interface Control {
  /**
   * Tells of each sign that the machine cannot go on as it should, though its process runs; the same may be told again and again.
   * Resolves when the connection is gone, with how the machine ended where the hypervisor has said so. Never rejects.
   */
  follow(onFault: (fault: Exit) => void): Promise<ExitKind | undefined>;
  close(): void;
}
