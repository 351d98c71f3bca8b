/**
 * The port to hypervisors. A driver is one host with one kind of hypervisor: it creates, lists, inspects and destroys machines there, shows
 * their consoles and tells when one has ended; the fleet is all of them. driver.contract.ts holds each promise made here as a test,
 * drivers.ts has the drivers there are, errors.ts what they throw, spec.ts what every one of them refuses.
 */
import { FireRunnerError } from "../base/errors.ts";
import type { Secret } from "../base/secret.ts";
import type { BootImage } from "../domain/images.ts";
import type { Capacity, Size } from "../domain/size.ts";

export interface MachineSpec {
  /** Made by `newMachineId`; the idempotency key of create. */
  readonly id: string;
  readonly size: Size;
  readonly image: BootImage;
  /**
   * Disks with what the job's containers are made of, at most `mostImageDisks` of the driver: paths on this computer. The machine sees
   * them behind its scratch disk in this order, read-only. They are opened once, by this program: nobody else needs to be able to read
   * them, and one that is removed later stays good for the machine.
   */
  readonly imageDisks?: readonly string[];
  /**
   * Given to drivers whose machines have no relay socket, and asked once for each machine they really make, right before it: the
   * secret that it brings takes the place of any earlier one. Rejects when the machine is not to be made any more.
   */
  readonly link?: () => Promise<RelayLink>;
}

/** How a guest on another computer finds the relay and proves who it is. Nothing else may be told to a machine's host. */
export interface RelayLink {
  /** `host:port` as guests reach it. */
  readonly address: string;
  /** The name in the relay's certificate. */
  readonly serverName: string;
  /** The authority that signed it, PEM. */
  readonly ca: string;
  /** Good for this machine only, until its end. */
  readonly secret: Secret;
}

/** Why nothing new should be started on a host just now. */
export interface HostProblem {
  readonly problem: string;
  readonly hint: string | undefined;
}

/**
 * How a machine that no longer runs ended. `host-disk`: its host's disk is full, and it was ended for that or lost what it wrote.
 * `disk-error`: its host's disk did not take what it wrote for another reason. `host-memory`: it was killed, and its host's kernel has
 * killed for want of memory while it ran. `lost`: it is gone and nobody saw how.
 */
export type ExitKind = "orderly" | "crash" | "killed" | "host-disk" | "disk-error" | "host-memory" | "lost";

/** How a machine ended, with what more there is to say of it, in words. */
export interface Exit {
  readonly exit: ExitKind;
  readonly words?: string;
}

export type MachineStatus =
  | { readonly running: true; readonly startedAt: number }
  | ({ readonly running: false } & Exit);

export interface DriverMachine {
  readonly id: string;
  readonly status: MachineStatus;
}

/** Whether this driver can run machines here, and how. */
export type Probe =
  | { readonly usable: true; readonly accelerator: string; readonly version: string; readonly note?: string }
  | { readonly usable: false; readonly problem: string; readonly hint: string };

/**
 * What the scheduler needs from a hypervisor on one host. All calls are idempotent and may be repeated after a crash of this program
 * at any point. Errors are FireRunnerErrors of `vm/errors.ts`. The suite in driver.contract.ts says what each promise means.
 */
export interface VmDriver {
  readonly name: string;
  /** Where machines of this driver run, in words: `local` for this computer. */
  readonly host: string;
  /** What placement may ask for, such as `zone: a`. */
  readonly labels: Readonly<Record<string, string>>;
  /** How long a create may take where that is longer than what is configured for all: a host may have to pull an image first. */
  readonly createLimitMs?: number;
  /** Can I run here? Proven by a boot with a deadline where hardware help is involved; cached. */
  probe(image: BootImage, signal: AbortSignal): Promise<Probe>;
  capacity(): Promise<Capacity>;
  /** Why nothing new should be started here; undefined when all is well. Answers from memory, and may change at any time. */
  trouble(): HostProblem | undefined;
  /** Why no machine of this driver can have this size, in words; undefined when one can. Pure, and for any numbers. */
  sizeProblem(size: Size): string | undefined;
  /** How many image disks a machine of this driver can have; 0 where it can have none. */
  readonly mostImageDisks: number;
  /**
   * The unix socket on which the relay must listen for this machine before `create`: the guest's only way out. Undefined when
   * machines are on another computer and come to the relay over the network, by their link. A pure function of the id. Its
   * directory is the driver's; the relay makes it (0700) when it is not there yet. The socket itself
   * must be open to all (0666): machines run as users of their own, and the directory keeps everybody else out.
   */
  relaySocket(id: string): string | undefined;
  /** Starts the machine and returns once its process runs. Creating an id that exists returns without doing anything. */
  create(spec: MachineSpec, signal: AbortSignal): Promise<void>;
  /** Everything this driver holds for this installation, running or not, known to the store or not. */
  list(signal: AbortSignal): Promise<readonly DriverMachine[]>;
  /** One machine, or undefined when nothing of it is left. */
  inspect(id: string, signal: AbortSignal): Promise<DriverMachine | undefined>;
  /** Ends it and returns when process, disks, sockets and directory are gone. An id that is gone succeeds. */
  destroy(id: string, signal: AbortSignal): Promise<void>;
  /** The last bytes of the console as text, at most `maxBytes`; empty when there is none. Also after the machine's end. */
  console(id: string, maxBytes: number): Promise<string>;
  /** Follows the console from its current end until the signal aborts or the machine is gone. */
  followConsole(id: string, signal: AbortSignal): AsyncIterable<string>;
  /** Calls `listener` as soon as a machine is known to have ended by itself. Returns the way to stop. */
  onExit(listener: (id: string) => void): () => void;
  /** Lets go of watches and timers. Machines keep running. */
  close(): Promise<void>;
}

/** A driver whose machines run on this computer, each with a relay socket. */
export interface LocalVmDriver extends VmDriver {
  relaySocket(id: string): string;
}

/** Every host that machines may run on, by `hostKey`. Hosts come and go with the configuration. */
export interface Fleet {
  hosts(): ReadonlyMap<string, VmDriver>;
  /** As `onExit` of every host, those to come included. */
  onExit(listener: (id: string) => void): () => void;
}

/**
 * What a create that failed says something of: this host, whatever it is asked for; this host with this image; or the very request,
 * which will be refused as long as nobody changes anything. In doubt the host.
 */
export function refusalIsAbout(error: unknown): "host" | "image" | "request" {
  if (!(error instanceof FireRunnerError)) return "host";
  if (/^(vm_)?image_/.test(error.code)) return "image";
  if (error.code === "vm_bad_spec") return "request";
  return error.code === "vm_host_refused" && !error.retryable ? "request" : "host";
}
