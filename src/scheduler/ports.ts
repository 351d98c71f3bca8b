import type { GuestEnd } from "../domain/events.ts";
import type { BootImage } from "../domain/images.ts";
import type { JobFailure } from "../domain/job-end.ts";
import type { Pool } from "../domain/pool.ts";
import type { RelayLink } from "../vm/driver.ts";

/** The relay, as the scheduler sees it: where guests speak. */
export interface GuestEndpoint {
  /**
   * Listens for this machine: on a unix socket, or with `undefined` on the network, where its link's secret tells who calls.
   * Idempotent; replaces a stale socket file of an earlier process.
   */
  open(machineId: string, socketPath: string | undefined): Promise<void>;
  /**
   * A new secret for a machine elsewhere, with the relay's address. Rejects when the machine has left `creating`, or when the
   * relay listens nowhere on the network.
   */
  link(machineId: string): Promise<RelayLink>;
  /** What a guest elsewhere said of its end; undefined while it has said nothing. */
  endOf(machineId: string): GuestEnd | undefined;
  /** Ends its connections and removes the socket. Idempotent. */
  close(machineId: string): Promise<void>;
  /** When the guest last sent anything (epoch ms), or undefined when not since this program started. */
  lastHeardAt(machineId: string): number | undefined;
  /** When GitLab last told the state of this machine's job in answer to the guest (epoch ms). */
  lastStatusAt(machineId: string): number | undefined;
  /**
   * GitLab wants the job canceled in order. A runner hears of that only in answer to a request, and one whose script is silent
   * asks every 30 s: this makes the guest hurry it. Idempotent.
   */
  tellCanceling(machineId: string): void;
}

/** An image with what the scheduler and the claimer need to know about it. */
export interface ReadyImage extends BootImage {
  /** `info` for job requests: what the runner in this image says about itself. */
  readonly runnerInfo: Readonly<Record<string, unknown>>;
  /** The same of jobs in containers; undefined where its machines run none. */
  readonly containerRunnerInfo?: Readonly<Record<string, unknown>> | undefined;
  /** What its machines can do, of `guestAbilities` and perhaps more; undefined where nobody says. */
  readonly abilities?: readonly string[];
  /** Which of the builder's variants it is. */
  readonly variant?: string;
}

/** Where images come from. Throws ImageError (`image_missing`, `image_corrupt`) with what to do. */
export interface ImageSource {
  resolve(name: string): Promise<ReadyImage>;
}

/** Images that jobs name, as disks for their machines. */
export interface JobImages {
  /**
   * Has all that the machine of this job needs, and holds it until the machine is gone. Fetching may take as long as the pool lets it. What
   * goes wrong with an image is the job's failure and is not thrown; throws only when the signal aborts, or for the store's errors.
   * `tell` gets a line for the job's log whenever there is something new to say of images that are still to come: a few in a minute.
   */
  prepare(
    wanted: WantedDisks,
    signal: AbortSignal,
    tell: (line: ImageLine) => void,
  ): Promise<PreparedDisks | { readonly failure: JobFailure }>;
}

export interface WantedDisks {
  readonly jobId: number;
  readonly machineId: string;
  /** The pool's name. */
  readonly pool: string;
  /** Name or digest of what the machine boots. */
  readonly image: string;
}

export interface PreparedDisks {
  /** Paths on this computer, in the order in which the machine is to have them; none for a job of the shell. */
  readonly disks: readonly string[];
  /** What the job's log is to say, once for each subject: of each image where it came from. Without secrets and control characters. */
  readonly lines: readonly ImageLine[];
}

export interface ImageLine {
  readonly level: "info" | "warning";
  readonly subject: string;
  readonly text: string;
}

/** The pools as configured now; changes on reload. */
export type Pools = () => ReadonlyMap<string, Pool>;
