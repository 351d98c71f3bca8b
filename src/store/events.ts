import type { Kysely, Transaction } from "kysely";
import type { LifecycleEvent } from "../domain/events.ts";
import { takeNumbers } from "./counters.ts";
import type { Store } from "./store.ts";
import type { EventRow, Tables } from "./tables.ts";
import type { Draft, Write } from "./writer.ts";

const DEFAULT_LIMIT = 1_000;

/** Gives the drafts the next numbers and writes them. Part of the transaction of whatever happened. */
export async function appendEvents(
  tx: Transaction<Tables>,
  drafts: readonly Draft[],
): Promise<LifecycleEvent[]> {
  if (drafts.length === 0) return [];
  const first = await takeNumbers(tx, "event", drafts.length);
  const events = drafts.map((draft, index) => ({ seq: first + index, ...draft }) as LifecycleEvent);
  await tx
    .insertInto("events")
    .values(events.map((event) => ({ ...event, detail: JSON.stringify(event.detail) })))
    .execute();
  return events;
}

export async function readEvents(
  db: Kysely<Tables>,
  filter: Parameters<Store["events"]>[0],
): Promise<LifecycleEvent[]> {
  let query = db.selectFrom("events").selectAll().orderBy("seq");
  if (filter.jobId !== undefined) query = query.where("jobId", "=", filter.jobId);
  if (filter.machineId !== undefined) query = query.where("machineId", "=", filter.machineId);
  if (filter.afterSeq !== undefined) query = query.where("seq", ">", filter.afterSeq);
  const rows = await query.limit(filter.limit ?? DEFAULT_LIMIT).execute();
  return rows.map(toEvent);
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
  const row = await tx.selectFrom("machines").select("jobId").where("id", "=", machineId).executeTakeFirst();
  return row?.jobId ?? null;
}
