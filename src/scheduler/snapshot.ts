/** What a round of the scheduler knows, as observe.ts gathers it and plan.ts decides by it. */
import type { GuestEnd } from "../domain/events.ts";
import type { HostCapacity, Labels, PlacementPolicy } from "../domain/placement.ts";
import type { Job, Machine } from "../store/store.ts";
import type { DriverMachine } from "../vm/driver.ts";

/** `end`: running jobs are to be failed because FireRunner ends and was configured so. */
export type Mode = "run" | "drain" | "end";

/** What a host told in this round; `undefined` where it could not be asked, and then nothing is concluded. */
export interface HostView {
  readonly listed: readonly DriverMachine[] | undefined;
  readonly capacity: HostCapacity | undefined;
}

/** Everything `plan` looks at. How it is gathered without races is told in observe.ts. */
export interface Snapshot {
  /** Unfinished jobs. */
  readonly jobs: readonly Job[];
  /** Live machines, and those that an unfinished job still refers to. */
  readonly machines: readonly Machine[];
  /** By key. */
  readonly hosts: ReadonlyMap<string, HostView>;
  readonly placement: PlacementPolicy;
  /** Machines whose process had been started before the hosts were asked: only they can be missed in a list. */
  readonly settled: ReadonlySet<string>;
  readonly pools: ReadonlyMap<string, PoolView>;
  /** Hosts of jobs that are being given a machine right now, whose rows may not show it yet, by job. */
  readonly starting: ReadonlyMap<number, string>;
  /** Hosts where a machine of a job was lost, by job: another one is better. */
  readonly avoidedHosts: ReadonlyMap<number, ReadonlySet<string>>;
  /** Machines for which the relay listens. */
  readonly listening: ReadonlySet<string>;
  /** Last sign of life, by machine. */
  readonly heardAt: ReadonlyMap<string, number>;
  /** What guests said of their end, by machine. */
  readonly ends: ReadonlyMap<string, GuestEnd>;
  /** When GitLab last told how a job stands, by job. */
  readonly statusAt: ReadonlyMap<number, number>;
  /** Jobs that somebody says have ended in GitLab, and from when on GitLab may be asked whether it is so. */
  readonly recheckAt: ReadonlyMap<number, number>;
  /** When this program began to look: nobody is late for what he could not tell us before. */
  readonly since: number;
  readonly mode: Mode;
}

interface PoolView {
  readonly driver: string;
  readonly image: string;
  readonly hostLabels: Labels;
}
