/**
 * What a round of the scheduler knows, as observe.ts gathers it and plan.ts decides by it, and what it says of machines that could be
 * started: which hosts have capacity for its claimed jobs, and why others have none. That is worked out once for all jobs, and only if
 * somebody asks: there may be thousands of them, and nearly all ask for one of a few sizes. Pure, as the plan.
 */
import type { GuestEnd } from "../domain/events.ts";
import {
  createPlacement,
  type HostCapacity,
  hostKey,
  type Labels,
  type Placement,
  type PlacementPolicy,
  permanentBlocker,
  type Wanted,
} from "../domain/placement.ts";
import type { Job, Machine } from "../store/store.ts";
import type { DriverMachine, MachineStatus } from "../vm/driver.ts";

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
  /** How long a job waited for its images, by job: that counts for nothing in what it may wait for a machine. */
  readonly fetchedMs: ReadonlyMap<number, number>;
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
  /** When the clock was last set while this program ran. Times of before say nothing, and some may be still to come. */
  readonly steppedAt?: number | undefined;
  readonly mode: Mode;
}

interface PoolView {
  readonly driver: string;
  readonly image: string;
  readonly hostLabels: Labels;
}

/** A machine with its place, looked up once: there may be thousands, and every question about them comes down to this. */
export interface Placed {
  readonly machine: Machine;
  /** The key of its host. */
  readonly host: string;
  /** Whether its host told what it has. */
  readonly isAsked: boolean;
  /** What its host told of it. */
  readonly status: MachineStatus | undefined;
}

export function placedMachines({ machines, hosts }: Snapshot): Map<string, Placed> {
  const told = new Map<string, ReadonlyMap<string, MachineStatus>>();
  for (const [key, { listed }] of hosts)
    if (listed) told.set(key, new Map(listed.map(({ id, status }) => [id, status])));
  const placed = new Map<string, Placed>();
  for (const machine of machines) {
    const host = hostKey(machine);
    const there = told.get(host);
    placed.set(machine.id, { machine, host, isAsked: there !== undefined, status: there?.get(machine.id) });
  }
  return placed;
}

/** All questions are about jobs as they are before anything of this snapshot is started. */
export interface Starts {
  /** Why a claimed job gets no machine just now, in words; undefined when it does, or is being given one. */
  blocker(job: Job): string | undefined;
  /** Why waiting is of no use to a job, in words; undefined while it may be. */
  permanentBlocker(job: Job): string | undefined;
  /** Whether a host would take it now, of those where no machine of it was lost. Only for a job that was tried on others. */
  hasUntriedHost(job: Job): boolean;
  wantedOf(job: Job): Wanted;
  /** The hosts that can be asked, with what is taken: by machines that are not gone, and by those about to be. A copy, to start more on. */
  placement(): Placement;
}

/** `machines`: those of the snapshot, if they have been looked up already. */
export function startsIn(snapshot: Snapshot, machines?: ReadonlyMap<string, Placed>): Starts {
  const capacities = [...snapshot.hosts.values()].flatMap(({ capacity, listed }) =>
    capacity && listed ? [capacity] : [],
  );
  let placement: Placement | undefined;
  const current = () => {
    placement ??= placementOf(snapshot, capacities, (machines ?? placedMachines(snapshot)).values());
    return placement;
  };
  const wantedOf = (job: Job) => wantedIn(snapshot, job);
  const isStarting = (job: Job) => snapshot.starting.has(job.id);
  const blockerOf = onceForEachKind((job) => current().blocker(wantedOf(job)));
  return {
    wantedOf,
    placement: () => current().clone(),
    blocker: (job) => (job.state !== "claimed" || isStarting(job) ? undefined : blockerOf(job)),
    permanentBlocker: onceForEachKind((job) => permanentBlocker(capacities, wantedOf(job))),
    hasUntriedHost(job) {
      const tried = snapshot.avoidedHosts.get(job.id);
      return tried !== undefined && (isStarting(job) || current().canPlace(wantedOf(job), tried));
    },
  };
}

/** For what is the same for all jobs of one pool and size, wherever they have been tried. */
function onceForEachKind(answer: (job: Job) => string | undefined): (job: Job) => string | undefined {
  const known = new Map<string, string | undefined>();
  return (job) => {
    const { cpus, memoryMib, diskMib } = job.size;
    const kind = `${cpus} ${memoryMib} ${diskMib} ${job.pool}`;
    if (!known.has(kind)) known.set(kind, answer(job));
    return known.get(kind);
  };
}

function placementOf(
  snapshot: Snapshot,
  capacities: readonly HostCapacity[],
  machines: Iterable<Placed>,
): Placement {
  const placement = createPlacement(capacities, snapshot.placement);
  for (const { machine, host } of machines)
    if (machine.state !== "gone") placement.occupy(host, machine.size, machine.state === "creating");
  for (const job of snapshot.jobs) {
    const host = job.state === "claimed" ? snapshot.starting.get(job.id) : undefined;
    if (host !== undefined) placement.occupy(host, job.size, true);
  }
  return placement;
}

function wantedIn({ pools, avoidedHosts }: Snapshot, { id, pool: name, size }: Job): Wanted {
  const { driver = "", image = "", hostLabels = {} } = pools.get(name) ?? {};
  const avoided = avoidedHosts.get(id);
  return { driver, image, size, hostLabels, ...(avoided ? { avoidedHosts: avoided } : {}) };
}
