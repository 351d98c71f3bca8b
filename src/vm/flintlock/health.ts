/**
 * The signs of a daemon that answers and does not work, as they were seen with flintlockd 0.11. Each names its cure, and goes away
 * by itself once the sign does. flintlockd has one worker: whatever moves proves that it is alive. How long it may stand still is
 * learnt from the machines that the host has made (`createPace`).
 */
import type { Clock } from "../../base/clock.ts";
import { formatDuration, SECOND_MS } from "../../base/units.ts";
import type { PublishedImage } from "../../domain/images.ts";
import type { HostProblem } from "../driver.ts";
import type { Addresses } from "./addresses.ts";
import { FlintlockError } from "./errors.ts";
import { isWaiting, type Listing, type RemoteMachine, type Snapshot } from "./listing.ts";

const LIST_LIMIT_MS = 30 * SECOND_MS;
/** Machines whose times are remembered. */
const MOST_TIMES = 20;
/** A busy host may take so many times as long as it usually does. */
const FACTOR = 5;
const LEAST_MS = 10 * SECOND_MS;
/** Images of which it is remembered that the host has them. */
const MOST_IMAGES = 100;

const restart = "restart flintlockd on the host: its machines run on, and what waits is carried out then";

/** The cure of a daemon that hears nothing any more. */
export const restartDaemon = `containerd may have been restarted below it: ${restart}`;

export interface Health {
  /** From memory; undefined when there is no sign of sickness. */
  trouble(): HostProblem | undefined;
  noteStuck(uids: readonly string[]): void;
  /** It takes orders and carries out none. */
  isDeaf(): boolean;
}

interface HealthDeps {
  readonly host: string;
  readonly listing: Listing;
  readonly addresses: Pick<Addresses, "failing">;
  readonly clock: Clock;
  /** How long a machine may stay as it is while the host does nothing else. */
  readonly patienceMs: (id: string) => number;
  readonly deleteTimeoutMs: number;
  /** Whether machines of others stand before this one in the daemon's queue. */
  readonly isBehindOthers: (uid: string) => Promise<boolean>;
}

export function createHealth(deps: HealthDeps): Health {
  const { host, listing, clock } = deps;
  const deafness = watchDeafness(deps);
  let stuck = new Set<string>();

  listing.onList(({ machines }) => {
    if (stuck.size === 0) return;
    const deleting = [...machines.values()].flat().filter(({ state }) => state === "deleting");
    stuck = new Set(deleting.map(({ uid }) => uid).filter((uid) => stuck.has(uid)));
  });

  /** A list that fails for good is as bad for addresses: no machine could be given one. */
  function listTrouble(): HostProblem | undefined {
    const failing = listing.failing() ?? deps.addresses.failing();
    if (!failing) return undefined;
    const isPoisoned = failing.error instanceof FlintlockError && failing.error.code === "vm_host_sick";
    const forMs = clock.now() - failing.since;
    if (!isPoisoned && forMs <= LIST_LIMIT_MS) return undefined;
    const hint = failing.error instanceof FlintlockError ? failing.error.hint : undefined;
    const why = failing.error instanceof Error ? failing.error.message : String(failing.error);
    return {
      problem: `the host ${host} has not listed its machines for ${formatDuration(forMs)}: ${why}`,
      hint,
    };
  }

  function stuckTrouble(): HostProblem | undefined {
    if (stuck.size === 0) return undefined;
    const limit = formatDuration(deps.deleteTimeoutMs);
    return {
      problem: `the host ${host} takes longer than ${limit} to delete ${[...stuck].join(", ")}`,
      hint: restart,
    };
  }

  return {
    isDeaf: () => deafness.trouble() !== undefined,
    trouble: () => listTrouble() ?? deafness.trouble() ?? stuckTrouble(),
    noteStuck: (uids) => {
      stuck = new Set([...stuck, ...uids]);
    },
  };
}

/**
 * After a restart of containerd the daemon takes creates and deletes, and carries none out. From outside: a machine stays PENDING,
 * untried, for longer than its host may need for it, while nothing else moves and nobody stands before it.
 */
function watchDeafness({ host, listing, clock, patienceMs, isBehindOthers }: HealthDeps) {
  let waiting = new Map<string, number>();
  let quietSince = clock.now();
  let deaf: string | undefined;
  let isLooking = false;

  async function look(uid: string): Promise<void> {
    isLooking = true;
    try {
      if (await isBehindOthers(uid)) quietSince = clock.now();
      else if (waiting.has(uid)) deaf = uid;
    } catch {
      // A host that cannot be asked has other troubles, which are told of.
    } finally {
      isLooking = false;
    }
  }

  listing.onList((snapshot) => {
    const next = waitingIn(snapshot);
    const hasMoved = waiting.size === 0 || [...waiting].some(([uid, retry]) => next.get(uid) !== retry);
    if (hasMoved) {
      quietSince = snapshot.askedAt;
      deaf = undefined;
    }
    waiting = next;
    const first = firstUntried(snapshot);
    if (first === undefined || deaf !== undefined || isLooking) return;
    const isOverdue = clock.now() - quietSince > patienceMs(first.id);
    if (isOverdue) void look(first.uid);
  });

  return {
    trouble(): HostProblem | undefined {
      if (deaf === undefined) return undefined;
      const forMs = clock.now() - quietSince;
      return {
        problem: `the host ${host} takes orders and has not carried out any for ${formatDuration(forMs)}`,
        hint: restartDaemon,
      };
    },
  };
}

/** The one that the daemon's worker comes to next. */
function firstUntried({ machines }: Snapshot): RemoteMachine | undefined {
  const untried = [...machines.values()].flat().filter((each) => isWaiting(each) && each.retry === 0);
  return untried.toSorted((a, b) => (a.uid < b.uid ? -1 : 1))[0];
}

/**
 * What the daemon still has to do, each with how often it was tried. A Delete turns PENDING into DELETING at once and proves nothing,
 * so the state is left out.
 */
function waitingIn({ machines }: Snapshot): Map<string, number> {
  const all = [...machines.values()].flat().filter(isWaiting);
  return new Map(all.map(({ uid, retry }) => [uid, retry]));
}

/**
 * How long this host takes to make a machine, by those that it made. A host that has the image is done in seconds, always; one that
 * may have to pull it first tells nothing of its progress, and has the time that is configured for a pull.
 */
export interface Pace {
  /** A machine is asked for, or was found to be on its way. */
  begin(id: string, image: PublishedImage): void;
  made(id: string): void;
  /** Nobody waits for it any more. */
  end(id: string): void;
  /** Whether the host is known to have made a machine of the image. */
  has(image: PublishedImage): boolean;
  /** How long the host may take for this machine while it does nothing else; for one not under way the time of a pull. */
  patienceMs(id: string): number;
}

export function createPace({ clock, pullTimeoutMs }: { clock: Clock; pullTimeoutMs: number }): Pace {
  const underWay = new Map<string, { readonly image: string; readonly since: number }>();
  const images = new Set<string>();
  let times: number[] = [];
  /** The host makes one machine after the other. */
  let lastMadeAt = Number.NEGATIVE_INFINITY;

  return {
    begin: (id, image) => void underWay.set(id, { image: keyOf(image), since: clock.now() }),
    made(id) {
      const machine = underWay.get(id);
      if (!machine) return;
      const now = clock.now();
      // What took a pull says nothing of how long it takes without.
      if (images.has(machine.image))
        times = [...times.slice(1 - MOST_TIMES), now - Math.max(machine.since, lastMadeAt)];
      lastMadeAt = now;
      images.delete(machine.image);
      images.add(machine.image);
      for (const oldest of [...images].slice(0, -MOST_IMAGES)) images.delete(oldest);
    },
    end: (id) => void underWay.delete(id),
    has: (image) => images.has(keyOf(image)),
    patienceMs(id) {
      const machine = underWay.get(id);
      if (!machine || !images.has(machine.image)) return pullTimeoutMs;
      const usualMs = median(times);
      // One that was made with a pull, or before this program started, says no more than that the image is there.
      return usualMs === undefined
        ? Math.min(pullTimeoutMs, 6 * LEAST_MS)
        : Math.min(pullTimeoutMs, Math.max(LEAST_MS, FACTOR * usualMs));
    },
  };
}

function keyOf({ kernel, root }: PublishedImage): string {
  return `${kernel} ${root}`;
}

function median(values: readonly number[]): number | undefined {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}
