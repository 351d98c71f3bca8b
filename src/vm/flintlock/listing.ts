/**
 * What a host holds of ours, as flintlockd lists it. One question to the host serves all who ask at the time; each list has a number, so
 * that who has just made or deleted a machine can tell whether a list knows of it.
 */
import type { Clock } from "../../base/clock.ts";
import { untilAborted } from "../../base/deadline.ts";
import { createListeners } from "../../base/listeners.ts";
import { SECOND_MS } from "../../base/units.ts";
import type { FlintlockClient, ListQuery } from "./client.ts";
import { FlintlockError } from "./errors.ts";
import { listDisturbed } from "./failures.ts";
import type { ListedMicroVM } from "./gen/service_pb.js";
import { type MicroVM, MicroVMStatus_State } from "./gen/types_pb.js";

/** How long a list is tried again that machines on their way out disturb. */
const PATIENCE_MS = 10 * SECOND_MS;
const RETRY_MS = 200;

/** How old a list may be while machines come and go, and while nothing happens. */
export const listAges = { busyMs: SECOND_MS, idleMs: 5 * SECOND_MS };

/** What the host held when it was asked. */
export interface Snapshot {
  /** Grows with each question to the host. */
  readonly number: number;
  readonly askedAt: number;
  readonly machines: ReadonlyMap<string, readonly RemoteMachine[]>;
}

/** The machines of our namespace on one host: one question to the host serves all who ask. */
export interface Listing {
  /** A list that is at most so old, and not of before a machine was made of which it could not know. */
  recent(maxAgeMs: number, signal: AbortSignal): Promise<Snapshot>;
  /** A list of which the host was asked after `mark()` gave this number. */
  after(mark: number, signal: AbortSignal): Promise<Snapshot>;
  /** A number for now: lists with a greater one were asked for later. */
  mark(): number;
  /** Carries out what makes a machine: lists that were asked for before its end may lack it. */
  making<Value>(work: () => Promise<Value>): Promise<Value>;
  latest(): Snapshot | undefined;
  /** Since when the host cannot list, and why; undefined when it can. */
  failing(): ListFailure | undefined;
  onList(listener: (snapshot: Snapshot) => void): () => void;
}

export interface ListFailure {
  readonly since: number;
  readonly error: unknown;
}

interface ListingDeps {
  readonly client: Pick<FlintlockClient, "list">;
  readonly namespace: string;
  readonly clock: Clock;
  readonly pauses: Pauses;
  /** Ends all lists under way. */
  readonly closed: AbortSignal;
}

export function createListing(deps: ListingDeps): Listing {
  const { namespace, clock, closed } = deps;
  const lists = createListeners<Snapshot>();
  let asked = 0;
  let makings = 0;
  /** Lists up to this number may lack a machine that was made since. */
  let outdated = 0;
  let latest: Snapshot | undefined;
  let underWay: { readonly number: number; readonly done: Promise<Snapshot> } | undefined;
  let failing: ListFailure | undefined;

  async function ask(number: number): Promise<Snapshot> {
    const askedAt = clock.now();
    try {
      const all = (await listPatiently(deps, { namespace }, closed)).flatMap(
        (each) => remoteMachine(each) ?? [],
      );
      latest = { number, askedAt, machines: byId(all) };
      failing = undefined;
      lists.emit(latest);
      return latest;
    } catch (error) {
      if (!closed.aborted) failing = { since: failing?.since ?? askedAt, error };
      throw error;
    } finally {
      underWay = undefined;
    }
  }

  function start(): Promise<Snapshot> {
    asked += 1;
    const done = ask(asked);
    underWay = { number: asked, done };
    return done;
  }

  async function after(mark: number, signal: AbortSignal): Promise<Snapshot> {
    if (latest && latest.number > mark) return latest;
    // What is under way may be too old: its end, good or bad, is then nothing to us.
    if (underWay && underWay.number <= mark) await untilAborted(underWay.done, signal).catch(() => {});
    signal.throwIfAborted();
    return await untilAborted(underWay?.done ?? start(), signal);
  }

  return {
    async recent(maxAgeMs, signal) {
      if (makings > 0) return await after(asked, signal);
      const isRecent = latest && latest.number > outdated && clock.now() - latest.askedAt < maxAgeMs;
      return isRecent && latest ? latest : await after(Math.max(latest?.number ?? 0, outdated), signal);
    },
    async making(work) {
      makings += 1;
      try {
        return await work();
      } finally {
        makings -= 1;
        outdated = asked;
      }
    },
    after,
    mark: () => asked,
    latest: () => latest,
    failing: () => failing,
    onList: lists.add,
  };
}

/** Asks again soon when the host was only disturbed by a machine that went away. */
export async function listPatiently(
  { client, clock, pauses }: Pick<ListingDeps, "client" | "clock" | "pauses">,
  query: ListQuery,
  signal: AbortSignal,
): Promise<readonly ListedMicroVM[]> {
  const beganAt = clock.now();
  for (let tries = 1; ; tries++) {
    try {
      return await client.list(query, signal);
    } catch (error) {
      if (!isDisturbed(error) || clock.now() - beganAt > PATIENCE_MS) throw error;
    }
    await pauses.pause(RETRY_MS * tries, signal);
  }
}

function isDisturbed(error: unknown): boolean {
  return error instanceof FlintlockError && error.failure === listDisturbed;
}

/** Calls `onEnd` for each machine that ran at one look and does not at the next, unless it is being removed by us. */
export function watchEnds(
  listing: Pick<Listing, "onList">,
  isRemoving: (id: string) => boolean,
  onEnd: (id: string) => void,
): void {
  let running = new Set<string>();
  listing.onList((snapshot) => {
    const next = runningIn(snapshot);
    const ended = [...running].filter((id) => !next.has(id));
    running = next;
    for (const id of ended) if (!isRemoving(id)) onEnd(id);
  });
}

function runningIn({ machines }: Snapshot): Set<string> {
  return new Set([...machines].filter(([, each]) => each.some(isRunning)).map(([id]) => id));
}

/** `created` says that a process was started, nothing more; `deleting` may yet turn back into `created`. */
type RemoteState = "pending" | "created" | "failed" | "deleting";

/** A machine as flintlockd shows it. */
export interface RemoteMachine {
  /** Our machine id. Several machines may have the same. */
  readonly id: string;
  /** flintlockd's own; newer ones sort after older ones. */
  readonly uid: string;
  readonly state: RemoteState;
  /** How often making it has failed so far. Why is told nowhere. */
  readonly retry: number;
  /** By the host's clock. */
  readonly madeAt: number | undefined;
}

const states: Readonly<Record<MicroVMStatus_State, RemoteState>> = {
  [MicroVMStatus_State.PENDING]: "pending",
  [MicroVMStatus_State.CREATED]: "created",
  [MicroVMStatus_State.FAILED]: "failed",
  [MicroVMStatus_State.DELETING]: "deleting",
};

/** Undefined for a machine without a name, which nobody can ask for. */
export function remoteMachine({ spec, status }: MicroVM | ListedMicroVM): RemoteMachine | undefined {
  if (!spec?.uid) return undefined;
  const state = states[status?.state ?? MicroVMStatus_State.PENDING] ?? "pending";
  return { id: spec.id, uid: spec.uid, state, retry: status?.retry ?? 0, madeAt: ulidTime(spec.uid) };
}

/** As far as flintlockd shows: a guest that has ended still counts, and only the relay notices. */
export function isRunning({ state }: RemoteMachine): boolean {
  return state === "pending" || state === "created";
}

/** Something that the daemon's one worker still has to do. */
export function isWaiting({ state }: RemoteMachine): boolean {
  return state === "pending" || state === "deleting";
}

/** All machines by our id; under each the newest first. */
function byId(machines: readonly RemoteMachine[]): ReadonlyMap<string, readonly RemoteMachine[]> {
  const newestFirst = machines.toSorted((a, b) => (a.uid < b.uid ? 1 : -1));
  return Map.groupBy(newestFirst, ({ id }) => id);
}

const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/** When a ULID was made, by the clock of who made it: its first 10 letters are milliseconds. Undefined for any other text. */
export function ulidTime(uid: string): number | undefined {
  if (!/^[0-7][0-9A-HJKMNP-TV-Z]{25}$/.test(uid)) return undefined;
  return Array.from(uid.slice(0, 10)).reduce((time, letter) => time * 32 + alphabet.indexOf(letter), 0);
}

/** Waiting that spreads out what would otherwise fall on the same moment: between 80 % and 120 % of the time. */
export interface Pauses {
  spread(ms: number): number;
  pause(ms: number, signal: AbortSignal): Promise<void>;
}

export function createPauses(clock: Clock, random: () => number): Pauses {
  const spread = (ms: number) => ms * (0.8 + 0.4 * random());
  return { spread, pause: (ms, signal) => clock.sleep(spread(ms), signal) };
}
