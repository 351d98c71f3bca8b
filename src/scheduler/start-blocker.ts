/** Which hosts have room for the jobs of a snapshot. Pure, as the plan that it is part of. */
import {
  createPlacement,
  type HostCapacity,
  hostKey,
  type Placement,
  type Wanted,
} from "../domain/placement.ts";
import type { Job, Machine } from "../store/store.ts";
import type { MachineStatus } from "../vm/driver.ts";
import type { Snapshot } from "./snapshot.ts";

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

/** Why a claimed job gets no machine just now, in words; undefined when it does. */
export function startBlocker(snapshot: Snapshot, job: Job): string | undefined {
  if (job.state !== "claimed" || snapshot.starting.has(job.id)) return undefined;
  return placementOf(snapshot, placedMachines(snapshot).values()).blocker(wantedOf(snapshot, job));
}

/** The hosts that can be asked, with what is taken: by machines that are not gone, and by those about to be. */
export function placementOf(snapshot: Snapshot, machines: Iterable<Placed>): Placement {
  const placement = createPlacement(capacitiesIn(snapshot), snapshot.placement);
  for (const { machine, host } of machines)
    if (machine.state !== "gone") placement.occupy(host, machine.size, machine.state === "creating");
  for (const job of snapshot.jobs) {
    const host = job.state === "claimed" ? snapshot.starting.get(job.id) : undefined;
    if (host !== undefined) placement.occupy(host, job.size, true);
  }
  return placement;
}

export function capacitiesIn({ hosts }: Snapshot): HostCapacity[] {
  return [...hosts.values()].flatMap(({ room, listed }) => (room && listed ? [room] : []));
}

export function wantedOf({ pools, shunned }: Snapshot, { id, pool: name, size }: Job): Wanted {
  const { driver = "", image = "", hostLabels = {} } = pools.get(name) ?? {};
  const avoided = shunned.get(id);
  return { driver, image, size, hostLabels, ...(avoided ? { avoidedHosts: avoided } : {}) };
}

/** A host that would take it now, for a job that was tried on others. */
export function hasUntriedHost(snapshot: Snapshot, job: Job): boolean {
  const tried = snapshot.shunned.get(job.id);
  if (tried === undefined) return false;
  const hosts = new Map([...snapshot.hosts].filter(([key]) => !tried.has(key)));
  return startBlocker({ ...snapshot, hosts }, job) === undefined;
}
