/**
 * One transaction after the other, each with its events: how the log is written, read and told to listeners. When the disk is full, a file
 * of a fixed size that was kept for this is removed, so that the ends of jobs can be written and machines be taken away; it is made again
 * when there is space.
 */
import { randomBytes } from "node:crypto";
import { open, rename, rm, stat, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { setImmediate } from "node:timers/promises";
import type { Kysely, Transaction } from "kysely";
import pLimit from "p-limit";
import type { Clock } from "../base/clock.ts";
import type { Listeners } from "../base/listeners.ts";
import { MIB_BYTES } from "../base/units.ts";
import type { EventDetails, EventKind, LifecycleEvent } from "../domain/events.ts";
import { toStoreError } from "./errors.ts";
import type { ChangeWatch, Written } from "./live.ts";
import { prepared } from "./prepared.ts";
import type { Store } from "./store.ts";
import type { EventRow, Tables } from "./tables.ts";

/** One transaction in the making. */
export interface Change {
  readonly tx: Transaction<Tables>;
  /** The time of all that this change writes. */
  readonly now: number;
  /** Adds an event, written with this transaction and told to the listeners after its commit. */
  record<Kind extends EventKind>(kind: Kind, about: About, detail: EventDetails[Kind]): void;
  /** Every row of a job, a machine or a drained host that this change writes has to be told here, as it is then. */
  wrote(row: Written): void;
}

interface About {
  readonly jobId: number | null;
  readonly machineId: string | null;
}

/** An event before it has a number. */
type Draft = Omit<LifecycleEvent, "seq">;

/**
 * Runs `change` as one transaction; `what` names it for errors ("storing job 7"). A change that answers `false` was
 * refused: nothing of it is kept.
 */
export type Write = <Result>(
  what: string,
  change: (change: Change) => Promise<Result>,
  lasting?: Lasting,
) => Promise<Result>;

/**
 * What a change must survive once it is answered. A crash of this program: always. A power cut: what we have promised GitLab
 * or a guest (`power-cut`). The rest is found out anew from GitLab and the drivers after a power cut, which ends every machine.
 */
type Lasting = "crash" | "power-cut";

interface Writer {
  readonly write: Write;
  /** Closes the database once all that was asked for before is done. */
  close(): Promise<void>;
}

/** Rolls a refused change back; never leaves this file. */
class Refused extends Error {}

/** Changes run one after the other, and the listeners of one are called before the next begins: events come in order. */
export function createWriter(deps: {
  db: Kysely<Tables>;
  clock: Clock;
  listeners: Listeners<LifecycleEvent>;
  /** Hears what a change has written before anybody else does. */
  watch: ChangeWatch;
  /** Resolves when everything committed so far is on the disk. */
  flush: () => Promise<void>;
  reserve?: Reserve;
  /** Told of each change that failed. Must not throw. */
  onError?: (() => void) | undefined;
}): Writer {
  const { db, clock, listeners, watch, flush, reserve = noReserve, onError = () => {} } = deps;
  const inTurn = pLimit(1);

  async function commit<Result>(
    change: (change: Change) => Promise<Result>,
    lasting: Lasting,
  ): Promise<Result> {
    const written: Written[] = [];
    watch.begun();
    const done = db.transaction().execute<[Result, LifecycleEvent[]]>(async (tx) => {
      const drafts: Draft[] = [];
      const now = clock.now();
      const record: Change["record"] = (kind, about, detail) =>
        drafts.push({ at: now, kind, ...about, detail } as Draft);
      const result = await change({ tx, now, record, wrote: (row) => written.push(row) });
      if (result === false) throw new Refused();
      return [result, await appendEvents(tx, drafts)];
    });
    const [result, events] = await done.catch((error: unknown) => {
      watch.ended(error instanceof Refused ? [] : undefined);
      throw error;
    });
    watch.ended(written);
    if (lasting === "power-cut") await flush();
    for (const event of events) listeners.emit(event);
    return result;
  }

  /** On a full disk the reserve is given away first, and the change is made once more. */
  async function commitOrRelease<Result>(
    what: string,
    change: (change: Change) => Promise<Result>,
    lasting: Lasting,
  ): Promise<Result> {
    try {
      return await commit(change, lasting);
    } catch (error) {
      const isFull = !(error instanceof Refused) && toStoreError(what, error).code === "store_full";
      if (!isFull || !(await reserve.release())) throw error;
      return await commit(change, lasting);
    }
  }

  const write: Write = (what, change, lasting = "crash") =>
    inTurn(async () => {
      try {
        const result = await commitOrRelease(what, change, lasting);
        void reserve.keep();
        // The engine answers at once, so a queue of changes would run to its end before anything else is served.
        if (inTurn.pendingCount > 0) await setImmediate();
        return result;
      } catch (error) {
        if (error instanceof Refused) return false as Awaited<ReturnType<typeof change>>;
        onError();
        throw toStoreError(what, error);
      }
    });
  return { write, close: () => inTurn(() => db.destroy()) };
}

const DEFAULT_LIMIT = 1_000;

type CounterName = Tables["counters"]["name"];

/** Gives the drafts the next numbers and writes them. Part of the transaction of whatever happened. */
async function appendEvents(tx: Transaction<Tables>, drafts: readonly Draft[]): Promise<LifecycleEvent[]> {
  if (drafts.length === 0) return [];
  const first = await takeNumbers(tx, "event", drafts.length);
  const events = drafts.map((draft, index) => ({ seq: first + index, ...draft }) as LifecycleEvent);
  for (const event of events) await insertEvent(tx, { ...event, detail: JSON.stringify(event.detail) });
  return events;
}

const insertEvent = prepared((db, event: EventRow) => db.insertInto("events").values(event));

/** The first of the next `count` numbers of a series, which has no gaps: they are taken back with the transaction. */
export async function takeNumbers(
  tx: Transaction<Tables>,
  name: CounterName,
  count: number,
): Promise<number> {
  const { rows } = await addToCounter(tx, { name, count });
  const last = rows[0]?.value;
  if (last === undefined) throw new Error(`the counter ${name} is missing`);
  return last - count + 1;
}

const addToCounter = prepared((db, { name, count }: { name: CounterName; count: number }) =>
  db
    .updateTable("counters")
    .set((eb) => ({ value: eb("value", "+", count) }))
    .where("name", "=", name)
    .returning("value"),
);

export async function readEvents(
  db: Kysely<Tables>,
  filter: Parameters<Store["events"]>[0],
): Promise<LifecycleEvent[]> {
  let query = db.selectFrom("events").selectAll().orderBy("seq");
  if (filter.jobId !== undefined) query = query.where("jobId", "=", filter.jobId);
  if (filter.machineId !== undefined) query = query.where("machineId", "=", filter.machineId);
  if (filter.afterSeq !== undefined) query = query.where("seq", ">", filter.afterSeq);
  if (filter.kinds !== undefined) query = query.where("kind", "in", filter.kinds);
  const rows = await query.limit(filter.limit ?? DEFAULT_LIMIT).execute();
  return rows.map(toEvent);
}

/** Of the counter, which stays when events are pruned. */
export async function readLastEvent(db: Kysely<Tables>): Promise<number> {
  const row = await db.selectFrom("counters").select("value").where("name", "=", "event").executeTakeFirst();
  return row?.value ?? 0;
}

function toEvent(row: EventRow): LifecycleEvent {
  return { ...row, detail: JSON.parse(row.detail) } as LifecycleEvent;
}

/** Records something that is not a move. An event of a machine also belongs to the machine's job. */
export function createNote(write: Write): Store["note"] {
  return async (kind, about, detail) => {
    const { jobId, machineId = null } = about;
    await write(`recording ${kind}`, async ({ tx, record }) => {
      const job = jobId ?? (machineId === null ? null : await jobOfMachine(tx, machineId));
      record(kind, { jobId: job, machineId }, detail);
    });
  };
}

async function jobOfMachine(tx: Transaction<Tables>, machineId: string): Promise<number | null> {
  const { rows } = await jobOf(tx, { machineId });
  return rows[0]?.jobId ?? null;
}

const jobOf = prepared((db, { machineId }: { machineId: string }) =>
  db.selectFrom("machines").select("jobId").where("id", "=", machineId),
);

const CHUNK_BYTES = MIB_BYTES;
/** As much has to be free, in parts of the reserve, before it is made: it must not be what fills the disk. */
const FREE_SHARE = 4;
const RETRY_MS = 10_000;

export interface Reserve {
  /** Makes it where it is missing and there is room; looks no more often than every ten seconds. Never rejects. */
  keep(): Promise<void>;
  /** Gives its space to whoever needs it. False when there was none to give. Never rejects. */
  release(): Promise<boolean>;
}

/** Nothing is kept, as for a database elsewhere. */
export const noReserve: Reserve = { keep: async () => {}, release: async () => false };

export function createReserve(path: string, bytes: number, clock: Clock): Reserve {
  let isThere = false;
  let lookedAt = Number.NEGATIVE_INFINITY;
  let making: Promise<void> = Promise.resolve();

  async function make(): Promise<void> {
    const size = await stat(path).then(
      (file) => file.size,
      () => 0,
    );
    if (size < bytes) {
      const { bavail, bsize } = await statfs(dirname(path));
      if (bavail * bsize < FREE_SHARE * bytes) return;
      await writeWhole(path, bytes);
    }
    isThere = true;
  }

  return {
    async keep() {
      if (isThere || clock.now() - lookedAt < RETRY_MS) return await making;
      lookedAt = clock.now();
      making = make().catch(async () => await rm(`${path}.new`, { force: true }).catch(() => {}));
      await making;
    },
    async release() {
      await making;
      isThere = false;
      lookedAt = clock.now();
      return await rm(path).then(
        () => true,
        () => false,
      );
    },
  };
}

/** Of bytes that no file system makes smaller, under its name only when it is whole. */
async function writeWhole(path: string, bytes: number): Promise<void> {
  const draft = `${path}.new`;
  const file = await open(draft, "w", 0o600);
  try {
    const chunk = randomBytes(CHUNK_BYTES);
    for (let written = 0; written < bytes; written += chunk.length)
      await file.writeFile(chunk.subarray(0, Math.min(chunk.length, bytes - written)));
    await file.datasync();
  } finally {
    await file.close();
  }
  await rename(draft, path);
}
