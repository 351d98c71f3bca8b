/** Removes machines from a host, and sees to it that each is created by one call at a time, which a removal ends. */
import type { Clock } from "../../base/clock.ts";
import { describeError } from "../../base/errors.ts";
import type { Log } from "../../base/log.ts";
import { formatDuration, SECOND_MS } from "../../base/units.ts";
import type { MachineSpec } from "../driver.ts";
import { VmError } from "../errors.ts";
import type { FlintlockClient } from "./client.ts";
import { FlintlockError } from "./errors.ts";
import { listDisturbed } from "./failures.ts";
import { type Listing, listAges, type Pauses, type RemoteMachine, type Snapshot } from "./listing.ts";

const POLL_MS = SECOND_MS;
/** A Delete that is overtaken by the end of a create is lost; one that comes while the first is carried out drives the daemon wild. */
const AGAIN_AFTER_MS = 3 * SECOND_MS;
/** One without an answer may still be on its way to a busy daemon. */
const AGAIN_AFTER_SILENCE_MS = 30 * SECOND_MS;
/** How long a machine that is still being made may hold up its own removal. */
const SETTLE_LIMIT_MS = 60 * SECOND_MS;
/** How long a removal that is late already is watched before its caller may go on. */
const LATE_PATIENCE_MS = 10 * SECOND_MS;
/**
 * A daemon that has just started looks at all its machines, one after the other: a Delete meanwhile may drive it wild too. It took 3 s for
 * 5 machines.
 */
const CALM_AFTER_START_MS = 5 * SECOND_MS;
const CALM_PER_MACHINE_MS = SECOND_MS;
const LONGEST_CALM_MS = 30 * SECOND_MS;

export interface Remover {
  /** Returns when no machine of this id is left, but for the one to keep. */
  remove(id: string, keep: string | undefined, signal: AbortSignal): Promise<void>;
  isRemoving(id: string): boolean;
  count(): number;
}

interface RemoverDeps {
  readonly host: string;
  readonly client: Pick<FlintlockClient, "delete" | "reconnectedAt">;
  readonly listing: Listing;
  readonly clock: Clock;
  readonly pauses: Pauses;
  readonly log: Log;
  readonly deleteTimeoutMs: number;
  /** A call to the host that is under way is not ended by those who wait for it. */
  readonly callsEnd: AbortSignal;
  readonly onStuck: (uids: readonly string[]) => void;
}

export function createRemover(deps: RemoverDeps): Remover {
  const { listing, clock, pauses } = deps;
  const since = new Map<string, number>();
  const underWay = new Map<string, number>();
  const deletes = createDeletes(deps);

  async function remove(id: string, keep: string | undefined, signal: AbortSignal): Promise<void> {
    underWay.set(id, (underWay.get(id) ?? 0) + 1);
    const beganAt = since.get(id) ?? clock.now();
    since.set(id, beganAt);
    try {
      await untilGone({ id, keep, beganAt, mark: listing.mark() }, signal);
      since.delete(id);
    } finally {
      const others = (underWay.get(id) ?? 1) - 1;
      if (others > 0) underWay.set(id, others);
      else underWay.delete(id);
    }
  }

  async function untilGone(wish: Wish, signal: AbortSignal): Promise<void> {
    const patienceUntil = clock.now() + LATE_PATIENCE_MS;
    for (;;) {
      const left = await step(wish, signal);
      if (left?.length === 0) return;
      if (clock.now() - wish.beganAt > deps.deleteTimeoutMs) refuseLate(wish.id, left ?? [], patienceUntil);
      await pauses.pause(POLL_MS, signal);
    }
  }

  function refuseLate(id: string, left: readonly RemoteMachine[], patienceUntil: number): void {
    deps.onStuck(left.map(({ uid }) => uid));
    if (clock.now() > patienceUntil) throw giveUp(deps, id, left);
  }

  /** Does what is due and tells what is left; undefined when the host cannot say just now. */
  async function step({ id, keep, beganAt, mark }: Wish, signal: AbortSignal) {
    const snapshot = await look(mark, signal);
    if (!snapshot) return undefined;
    const left = (snapshot.machines.get(id) ?? []).filter(({ uid }) => uid !== keep);
    for (const machine of left) await deletes.consider(machine, snapshot, clock.now() - beganAt);
    return left;
  }

  /** A list of after the wish; undefined when it is disturbed, as by the very delete. */
  async function look(mark: number, signal: AbortSignal): Promise<Snapshot | undefined> {
    const hasBegun = (listing.latest()?.number ?? 0) > mark;
    try {
      return await (hasBegun ? listing.recent(listAges.busyMs, signal) : listing.after(mark, signal));
    } catch (error) {
      if (error instanceof FlintlockError && error.failure === listDisturbed) return undefined;
      throw error;
    }
  }

  return {
    remove,
    isRemoving: (id) => underWay.has(id),
    count: () => underWay.size,
  };
}

interface Wish {
  readonly id: string;
  readonly keep: string | undefined;
  readonly beganAt: number;
  /** Lists with a greater number were asked for after this wish. */
  readonly mark: number;
}

/** Which Deletes have been sent, so that none is sent again too early, whoever asks. */
function createDeletes({ client, listing, clock, log, callsEnd }: RemoverDeps) {
  const sent = new Map<string, { readonly mark: number; readonly againAt: number }>();
  listing.onList(({ machines }) => {
    const listed = new Set([...machines.values()].flat().map(({ uid }) => uid));
    for (const uid of sent.keys()) if (!listed.has(uid)) sent.delete(uid);
  });

  function isDue(
    { uid, state, retry }: RemoteMachine,
    { number, machines }: Snapshot,
    waitedMs: number,
  ): boolean {
    if (state === "deleting") return false;
    const earlier = sent.get(uid);
    if (earlier) return number > earlier.mark && clock.now() >= earlier.againAt;
    if (state === "pending" && retry === 0 && waitedMs < SETTLE_LIMIT_MS) return false;
    const startedAt = client.reconnectedAt() ?? Number.NEGATIVE_INFINITY;
    const calmMs = Math.max(CALM_AFTER_START_MS, machines.size * CALM_PER_MACHINE_MS);
    return clock.now() - startedAt >= Math.min(calmMs, LONGEST_CALM_MS);
  }

  async function send({ id, uid }: RemoteMachine): Promise<void> {
    if (sent.has(uid)) log.warn({ machineId: id, uid }, "a delete was lost, sending it again");
    // Others who look meanwhile must not send it too.
    sent.set(uid, { mark: Number.POSITIVE_INFINITY, againAt: Number.POSITIVE_INFINITY });
    const failed = await client.delete(uid, callsEnd).then(() => undefined, failureOf);
    if (failed && !mayBeMarked(failed)) {
      sent.delete(uid);
      throw failed.error;
    }
    // Whether one without an answer was carried out the next list shows.
    const waitMs = failed ? AGAIN_AFTER_SILENCE_MS : AGAIN_AFTER_MS;
    sent.set(uid, { mark: listing.mark(), againAt: clock.now() + waitMs });
  }

  return {
    async consider(machine: RemoteMachine, snapshot: Snapshot, waitedMs: number): Promise<void> {
      if (isDue(machine, snapshot, waitedMs)) await send(machine);
    },
  };
}

const failureOf = (error: unknown) => ({ error });

function mayBeMarked({ error }: { error: unknown }): boolean {
  if (!(error instanceof FlintlockError)) return false;
  return error.mayHaveWorked || error.code === "vm_host_unknown_machine";
}

function giveUp(deps: RemoverDeps, id: string, left: readonly RemoteMachine[]): VmError {
  const { host, deleteTimeoutMs, log } = deps;
  const states = left.map(({ uid, state }) => `${uid} is ${state}`).join(", ");
  const error = new VmError(
    "vm_destroy_failed",
    `the host ${host} did not delete machine ${id} within ${formatDuration(deleteTimeoutMs)}: ${states}`,
    { hint: "restart flintlockd on the host: its machines run on meanwhile", retryable: true },
  );
  log.warn({ machineId: id, error: describeError(error) }, "a host does not delete a machine");
  return error;
}

/** The creates under way of one host: at most one for each machine. */
export interface InFlightCreates {
  /** Joins the one under way for this machine, if there is one. */
  create(spec: MachineSpec, signal: AbortSignal): Promise<void>;
  /** Has the one under way given up, if there is one, and waits for its end. The host may go on making the machine. */
  stop(id: string): Promise<void>;
  isUnderWay(id: string): boolean;
  count(): number;
  settled(): Promise<void>;
}

export function createInFlightCreates(
  make: (spec: MachineSpec, signal: AbortSignal) => Promise<void>,
  closed: AbortSignal,
): InFlightCreates {
  const underWay = new Map<string, { readonly done: Promise<void>; readonly ends: AbortController }>();

  async function create(spec: MachineSpec, signal: AbortSignal): Promise<void> {
    const other = underWay.get(spec.id);
    if (other) return await other.done;
    const ends = new AbortController();
    const done = makeOnce(spec, AbortSignal.any([signal, ends.signal, closed]));
    underWay.set(spec.id, { done, ends });
    await done.finally(() => underWay.delete(spec.id));
  }

  async function makeOnce(spec: MachineSpec, signal: AbortSignal): Promise<void> {
    try {
      signal.throwIfAborted();
      await make(spec, signal);
    } catch (error) {
      if (!signal.aborted) throw error;
      throw new VmError("vm_create_failed", `creating machine ${spec.id} was stopped`, {
        cause: error,
        retryable: true,
      });
    }
  }

  return {
    create,
    async stop(id) {
      const create = underWay.get(id);
      create?.ends.abort(new Error("the machine is not wanted any more"));
      await create?.done.catch(() => {});
    },
    isUnderWay: (id) => underWay.has(id),
    count: () => underWay.size,
    settled: async () => void (await Promise.allSettled([...underWay.values()].map(({ done }) => done))),
  };
}
