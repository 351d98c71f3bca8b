/** What a simulation has, and what is written down of it while it happens. */
import type { Claimer } from "../../src/claiming/claimer.ts";
import type { Pool } from "../../src/domain/pool.ts";
import type { Scheduler } from "../../src/scheduler/scheduler.ts";
import type { Store } from "../../src/store/store.ts";
import type { FakeGuest } from "../../src/vm/fake/host.ts";
import type { ChangingFleet } from "../../src/vm/fleet.ts";
import type { Random } from "./random.ts";
import type { SimClock } from "./sim-clock.ts";
import type { SimGitLab } from "./sim-gitlab.ts";
import type { SimProcess } from "./sim-process.ts";
import type { SimRelay } from "./sim-relay.ts";

/** One FireRunner, from its start to its end. */
export interface Life {
  readonly process: SimProcess;
  readonly scheduler: Scheduler;
  readonly claimer: Claimer;
  readonly relay: SimRelay;
  readonly fleet: ChangingFleet;
  /** As this process reaches it. */
  readonly store: Store;
}

export interface World {
  readonly seed: number;
  readonly clock: SimClock;
  readonly random: Random;
  readonly gitlab: SimGitLab;
  readonly store: Store;
  /** What happened, for the report of a failure. */
  readonly history: string[];
  /** Machines that something was done to: only they may be given up. */
  readonly harmed: Set<string>;
  readonly payloads: { readonly machineId: string; readonly jobId: number }[];
  /** Jobs that GitLab gave to a life that died before it could write them down. */
  readonly lostClaims: Set<number>;
  /** Outcome of each job's script, where it ran to its end. */
  readonly truths: Map<number, "success" | "failed">;
  isFaulty(): boolean;
  life(): Life | undefined;
  log(text: string): void;
}

/** Where machines run, and what is done to it. */
export interface Site {
  readonly pools: readonly Pool[];
  /** How many jobs there are to be. */
  readonly jobs: number;
  /** About how many more calls a round makes here than on one host: one call in so many is the last of a process. */
  readonly callsPerRound: number;
  /** The hosts as a new process finds them. */
  open(process: SimProcess, store: Store): ChangingFleet;
  /** Called once the process works. */
  attend(life: Life): void;
  /** Does harm for as long as the world is faulty, and puts right what does not heal by itself. */
  trouble(): Promise<void>;
  /** Whether this guest can be heard by the relay, wherever that is. */
  isCutOff(guest: FakeGuest): boolean;
  /** Machines that are still at a host, with their hosts. */
  leftovers(): string[];
  /** What was done to the hosts that must not be done. */
  readonly violations: readonly string[];
}

export type SiteOf = (world: World, play: (guest: FakeGuest) => Promise<void>) => Site;
