/**
 * Which host a machine goes to. Pure: the same rules serve the claimer, who must know whether a job could be run before asking for
 * it, and the scheduler, who starts its machine.
 */

import { formatMib } from "../base/units.ts";
import { type Capacity, describeSize, fits, fitsBesideDisk, type Size, type Taken } from "./size.ts";
import type { MachineState } from "./states.ts";

export type Labels = Readonly<Record<string, string>>;

/** `spread`: the emptiest host. `pack`: the fullest, so that others stay free for large machines. */
export type PlacementPolicy = "spread" | "pack";

/** One host, as far as placement is concerned. */
export interface HostCapacity {
  /** See `hostKey`. */
  readonly key: string;
  readonly driver: string;
  readonly capacity: Capacity;
  readonly labels: Labels;
  /** Why nothing new may go there, whatever it is. */
  readonly closed: string | undefined;
  /** Images, by the names of pools, that cannot be used there, and why. */
  readonly unusable: ReadonlyMap<string, string>;
  /** Images that have been there, by the names of pools: nothing has to be pulled. */
  readonly images: ReadonlySet<string>;
  /** Machines that it did not make lately. */
  readonly refusals: readonly HostRefusal[];
}

/** What a host did not make when it was asked to. */
export interface HostRefusal {
  /** By the names of pools; undefined for machines of every image. */
  readonly images: ReadonlySet<string> | undefined;
  /** Given when it is the request itself that cannot be met; undefined for machines of every size. */
  readonly size: Size | undefined;
  /** A sentence. */
  readonly problem: string;
  /** It has cooled down: one machine may show whether it can by now. */
  readonly isOnTrial: boolean;
}

/** What a machine asks of its host. */
export interface Wanted {
  readonly driver: string;
  readonly image: string;
  readonly size: Size;
  /** All of them must be the host's. */
  readonly hostLabels: Labels;
  /** Hosts to go to only if there is no other, such as those where the last machine of the job failed. */
  readonly avoidedHosts?: ReadonlySet<string>;
}

/** The hosts with what is taken on each. */
export interface Placement {
  /**
   * A machine that is there, whether or not it fits. Nothing happens for a host that is not known. One that is being
   * made is the trial of a host on trial.
   */
  occupy(host: string, size: Size, isBeingMade?: boolean): void;
  vacate(host: string, size: Size): void;
  /** Takes capacity on the best host and returns its key; undefined when no host has any. */
  place(wanted: Wanted): string | undefined;
  /**
   * For a machine that must be made and fits nowhere now: takes the capacity that others will leave, on the best host that could
   * ever hold it, so that what comes later cannot take that away again and again.
   */
  reserveFuture(wanted: Wanted): void;
  /** Whether a host can take it now, of those beside `except`. */
  canPlace(wanted: Wanted, except: ReadonlySet<string>): boolean;
  /** Why no host can take it now; undefined when one can. */
  blocker(wanted: Wanted): string | undefined;
  /** Why no host could take it even if nothing ran and all were well. */
  impossible(wanted: Wanted): string | undefined;
  /** The same state, to try things with. */
  clone(): Placement;
}

/** The host that is this computer, whichever driver runs machines on it. */
export const LOCAL_HOST = "local";

export function isLocalHost(host: string): boolean {
  return host === LOCAL_HOST;
}

/**
 * The name of a host among all drivers' hosts: that of the driver for this computer (`qemu`), and `driver/host` elsewhere
 * (`flintlock/metal-1`).
 */
export function hostKey({ driver, host }: { readonly driver: string; readonly host: string }): string {
  return isLocalHost(host) ? driver : `${driver}/${host}`;
}

/** Whether a machine's row says that it is on the host of this key. */
export function livesOn(
  machine: { readonly driver: string; readonly host: string; readonly state: MachineState } | undefined,
  key: string,
): boolean {
  return machine !== undefined && machine.state !== "gone" && hostKey(machine) === key;
}

/**
 * How much fuller, as a part of a whole host, a host may be that has the image already: a pull takes minutes, but machines that
 * all went to the first host that has it would never be spread.
 */
const IMAGE_WORTH = 0.25;
/** More than any difference of load. */
const AVOIDED_COST = 10;
/** A host on trial gets a machine when the others are half as full again: sooner is a risk, and never would be no trial. */
const TRIAL_COST = 0.5;

const nothing: Taken = { cpus: 0, memoryMib: 0, machines: 0, diskMib: 0 };

/** What is taken of one host, as it changes. */
type Account = { -readonly [Key in keyof Taken]: Taken[Key] };

export function createPlacement(hosts: readonly HostCapacity[], policy: PlacementPolicy): Placement {
  return placementOf(hosts, policy, new Map(hosts.map(({ key }) => [key, { ...nothing }])), new Set());
}

function changeTaken(at: Account | undefined, size: Size, by: 1 | -1): void {
  if (!at) return;
  at.cpus += by * size.cpus;
  at.memoryMib += by * size.memoryMib;
  at.machines += by;
  at.diskMib += by * size.diskMib;
}

function placementOf(
  hosts: readonly HostCapacity[],
  policy: PlacementPolicy,
  taken: ReadonlyMap<string, Account>,
  /** Hosts that are making a machine, or are about to. */
  creating: Set<string>,
): Placement {
  const refusalOf = (host: HostCapacity, wanted: Wanted) => refusal(host, wanted, creating);
  const takenOf = ({ key }: HostCapacity): Taken => taken.get(key) ?? nothing;
  const fitsNow =
    ({ size }: Wanted) =>
    (host: HostCapacity) =>
      fits(host.capacity, takenOf(host), size);

  function occupy(key: string, size: Size, isBeingMade = false): void {
    changeTaken(taken.get(key), size, 1);
    if (isBeingMade) creating.add(key);
  }

  function best(wanted: Wanted, hasSpace: (host: HostCapacity) => boolean): string | undefined {
    let found: { key: string; cost: number } | undefined;
    for (const host of hosts) {
      if (refusalOf(host, wanted) !== undefined || !hasSpace(host)) continue;
      const cost = costOf(host, takenOf(host), wanted, policy);
      if (found === undefined || cost < found.cost) found = { key: host.key, cost };
    }
    return found?.key;
  }

  function take(key: string | undefined, size: Size): string | undefined {
    if (key !== undefined) occupy(key, size, true);
    return key;
  }

  function place(wanted: Wanted): string | undefined {
    return take(best(wanted, fitsNow(wanted)), wanted.size);
  }

  function reserveFuture(wanted: Wanted): void {
    const fitsOnEmpty = ({ capacity }: HostCapacity) => fits(capacity, nothing, wanted.size);
    take(best(wanted, fitsOnEmpty), wanted.size);
  }

  const canPlace = (wanted: Wanted, except: ReadonlySet<string>) =>
    hosts.some(
      (host) => !except.has(host.key) && refusalOf(host, wanted) === undefined && fitsNow(wanted)(host),
    );

  const blocker = (wanted: Wanted) =>
    allAgainst(
      hosts,
      wanted,
      (host) => refusalOf(host, wanted) ?? fullness(host.capacity, takenOf(host), wanted.size),
    );

  const impossible = (wanted: Wanted) =>
    allAgainst(hosts, wanted, (host) => inability(host, wanted) ?? impossibility(host, wanted));

  return {
    occupy,
    vacate: (key, size) => changeTaken(taken.get(key), size, -1),
    place,
    reserveFuture,
    canPlace,
    blocker,
    impossible,
    clone() {
      const copies = new Map([...taken].map(([key, each]) => [key, { ...each }]));
      return placementOf(hosts, policy, copies, new Set(creating));
    },
  };
}

/** What all hosts have against it; undefined when one has nothing. */
function allAgainst(
  hosts: readonly HostCapacity[],
  wanted: Wanted,
  reasonOf: (host: HostCapacity) => string | undefined,
): string | undefined {
  const reasons: string[] = [];
  for (const host of hosts.filter(({ driver }) => driver === wanted.driver)) {
    const reason = reasonOf(host);
    if (reason === undefined) return undefined;
    reasons.push(reason);
  }
  return describeBlockers(hosts, wanted, reasons);
}

/** Why this host is none for the machine, full or not; undefined when it is one. */
function refusal(host: HostCapacity, wanted: Wanted, creating: ReadonlySet<string>): string | undefined {
  return (
    mismatch(host, wanted) ??
    host.closed ??
    host.unusable.get(wanted.image) ??
    refusalsOf(host, wanted).find(({ isOnTrial }) => !isOnTrial || creating.has(host.key))?.problem
  );
}

/** What the host did not make of this kind. */
function refusalsOf({ refusals }: HostCapacity, { image, size }: Wanted): readonly HostRefusal[] {
  return refusals.filter(
    ({ images, size: refused }) =>
      (images === undefined || images.has(image)) && (refused === undefined || isSameSize(refused, size)),
  );
}

function isSameSize(a: Size, b: Size): boolean {
  return a.cpus === b.cpus && a.memoryMib === b.memoryMib && a.diskMib === b.diskMib;
}

/**
 * Why waiting is of no use: every host that could ever hold the machine has answered that it cannot be as it is asked for.
 * Undefined while there is one that has not.
 */
export function permanentBlocker(hosts: readonly HostCapacity[], wanted: Wanted): string | undefined {
  const able = hosts.filter((host) => inability(host, wanted) === undefined);
  if (able.length === 0) return undefined;
  return allAgainst(able, wanted, (host) => impossibility(host, wanted));
}

/** Why it could not be there even if nothing ran, by what the host is and has. */
function inability(host: HostCapacity, wanted: Wanted): string | undefined {
  return mismatch(host, wanted) ?? fullness(host.capacity, nothing, wanted.size);
}

/** Why it cannot be there as it is asked for, by the host's own word. */
function impossibility(host: HostCapacity, wanted: Wanted): string | undefined {
  return refusalsOf(host, wanted).find(({ size, isOnTrial }) => size !== undefined && !isOnTrial)?.problem;
}

function mismatch(host: HostCapacity, { driver, hostLabels }: Wanted): string | undefined {
  if (host.driver !== driver) return `it is a host of ${host.driver}`;
  const missing = missingLabel(host.labels, hostLabels);
  return missing && `it has not the label ${missing}`;
}

/** The first label that is wanted and not there; undefined when all are. */
export function missingLabel(labels: Labels, wanted: Labels): string | undefined {
  for (const name in wanted) if (labels[name] !== wanted[name]) return `${name}: ${wanted[name]}`;
  return undefined;
}

/** Lower is better. Between 0 and 1 for the load, as it is once the machine is there. */
function costOf(host: HostCapacity, at: Taken, wanted: Wanted, policy: PlacementPolicy): number {
  const { capacity } = host;
  const load = Math.max(
    (at.cpus + wanted.size.cpus) / capacity.cpus,
    (at.memoryMib + wanted.size.memoryMib) / capacity.memoryMib,
    (at.machines + 1) / capacity.machines,
    capacity.diskMib === undefined ? 0 : (at.diskMib + wanted.size.diskMib) / capacity.diskMib,
  );
  const pull = host.images.has(wanted.image) ? 0 : IMAGE_WORTH;
  const avoided = wanted.avoidedHosts?.has(host.key) ? AVOIDED_COST : 0;
  const trial = refusalsOf(host, wanted).length > 0 ? TRIAL_COST : 0;
  return (policy === "spread" ? load : 1 - load) + pull + avoided + trial;
}

function fullness(capacity: Capacity, at: Taken, size: Size): string | undefined {
  if (fits(capacity, at, size)) return undefined;
  if (fitsBesideDisk(capacity, at, size)) return diskFullness(capacity.diskMib ?? 0, at, size);
  const memory = `${at.memoryMib} of ${capacity.memoryMib} MiB`;
  return `${at.cpus} of ${capacity.cpus} CPUs, ${memory} and ${at.machines} of ${capacity.machines} machines are taken`;
}

/** All else fits: what is short is disk. */
function diskFullness(diskMib: number, at: Taken, size: Size): string {
  const wanted = `a disk of ${formatMib(size.diskMib)} does not fit`;
  if (at.diskMib === 0) return `${wanted}: it has ${formatMib(diskMib)} for the disks of machines`;
  return `${wanted}: ${formatMib(at.diskMib)} of ${formatMib(diskMib)} for the disks of machines are taken`;
}

const MOST_NAMED = 3;

/** One host is spoken of directly; of many, some are named. */
function describeBlockers(
  hosts: readonly HostCapacity[],
  { driver, size }: Wanted,
  reasons: readonly string[],
): string {
  const what = `no room for ${describeSize(size)}`;
  const own = hosts.filter((host) => host.driver === driver);
  if (own.length === 0) return `${what}: the ${driver} driver has no host`;
  if (own.length === 1 && own[0]?.key === driver) return `${what}: ${reasons[0]}`;
  const named = own
    .slice(0, MOST_NAMED)
    .map(({ key }, index) => `${key.slice(driver.length + 1)}: ${reasons[index]}`);
  const others = own.length - named.length;
  return `${what}: ${named.join("; ")}${others > 0 ? `; and ${others} more hosts` : ""}`;
}
