import type { Secret } from "../base/secret.ts";
import type { Egress } from "./egress.ts";
import type { Labels } from "./placement.ts";
import type { Size } from "./size.ts";

/** What a machine is besides its CPUs and memory: all that the tags of a job do not say. */
export interface MachineKind {
  readonly image: string;
  readonly driver: string;
  /** Jobs at one time, of a pool or of one set of tags. */
  readonly concurrency: number;
  readonly egress: Egress;
  /** What the host must have, where a driver has several. */
  readonly hostLabels: Labels;
  readonly diskMib: number;
}

/** A named kind of machine, ready for use: defaults filled in, token read, driver decided. */
export interface Pool extends Omit<MachineKind, "diskMib"> {
  /** A name of the configuration; or, for jobs by tag, one with a colon, which no name of the configuration holds. */
  readonly name: string;
  readonly size: Size;
  /** The token of the GitLab runner whose jobs it serves. Never given to a machine. */
  readonly runnerToken: Secret;
}
