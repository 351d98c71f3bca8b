import type { Kysely, Transaction } from "kysely";
import { chunksOf } from "./chunks.ts";
import { takeNumbers } from "./counters.ts";
import type { Deliveries, Delivery } from "./deliveries.ts";
import { noteNews } from "./projects.ts";
import { cut, type Tables } from "./tables.ts";
import type { Change, Write } from "./writer.ts";

const DEFAULT_LIMIT = 100;
const LONGEST_KEY = 200;
const LONGEST_EVENT = 64;
const LONGEST_STATUS = 32;

type NewDelivery = Omit<Delivery, "receivedAt">;

const columns = ["key", "event", "projectId", "jobId", "status", "receivedAt"] as const;

export function createKeepDeliveries(write: Write): Deliveries["keepDeliveries"] {
  return async (deliveries) => {
    if (deliveries.length === 0) return [];
    return await write("storing deliveries", (change) => keep(change, deliveries), "power-cut");
  };
}

/** The keys decide, also between two of one batch: the first is new. Whoever was told `new` is the only one. */
async function keep(change: Change, deliveries: readonly NewDelivery[]): Promise<boolean[]> {
  const { tx, now } = change;
  const cleaned = deliveries.map(clean);
  const rows = new Map<string, NewDelivery>();
  for (const delivery of cleaned) if (!rows.has(delivery.key)) rows.set(delivery.key, delivery);
  const first = await takeNumbers(tx, "delivery", rows.size);
  const unseen = new Set<string>();
  const numbered = [...rows.values()].map((row, index) => ({ ...row, seq: first + index, receivedAt: now }));
  for (const chunk of chunksOf(numbered)) {
    const inserted = await tx
      .insertInto("deliveries")
      .values(chunk)
      .onConflict((conflict) => conflict.doNothing())
      .returning("key")
      .execute();
    for (const { key } of inserted) unseen.add(key);
  }
  const news = [...rows.values()].filter(({ key }) => unseen.has(key)).map(({ projectId }) => projectId);
  await noteNews(
    change,
    [...new Set(news)].filter((id) => id !== null),
  );
  return cleaned.map(({ key }) => unseen.delete(key));
}

/** One row that the database refuses would refuse the whole batch: nothing is taken as it comes from outside. */
function clean({ key, event, projectId, jobId, status }: NewDelivery): NewDelivery {
  return {
    key: cut(key, LONGEST_KEY),
    event: cut(event, LONGEST_EVENT),
    projectId: idOrNull(projectId),
    jobId: idOrNull(jobId),
    status: status === null ? null : cut(status, LONGEST_STATUS),
  };
}

function idOrNull(id: number | null): number | null {
  return Number.isSafeInteger(id) ? id : null;
}

export async function readDeliveries(
  db: Kysely<Tables>,
  { since, limit = DEFAULT_LIMIT }: { since?: number; limit?: number },
): Promise<Delivery[]> {
  const newestFirst = db
    .selectFrom("deliveries")
    .select(columns)
    .orderBy("receivedAt", "desc")
    .orderBy("seq", "desc")
    .limit(limit);
  return await (since === undefined ? newestFirst : newestFirst.where("receivedAt", ">=", since)).execute();
}

export async function readDeliveryOfJob(db: Kysely<Tables>, jobId: number): Promise<Delivery | undefined> {
  return await db
    .selectFrom("deliveries")
    .select(columns)
    .where("jobId", "=", jobId)
    .orderBy("seq", "desc")
    .limit(1)
    .executeTakeFirst();
}

/** Part of pruning. */
export async function deleteDeliveries(
  tx: Transaction<Tables>,
  before: number,
  mostRows: number,
): Promise<bigint> {
  const old = tx
    .selectFrom("deliveries")
    .select("key")
    .where("receivedAt", "<", before)
    .orderBy("receivedAt")
    .limit(mostRows);
  return (await tx.deleteFrom("deliveries").where("key", "in", old).executeTakeFirst()).numDeletedRows;
}
