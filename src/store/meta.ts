/** Small helpers of several tables: the installation's id, numbers without gaps, and inserts of many rows. */
import type { Kysely, Transaction } from "kysely";
import type { Tables } from "./tables.ts";

/** The installation's stable id (32 hex digits), made from `random` the first time. */
export async function installationIdOf(
  db: Kysely<Tables>,
  random: (size: number) => Uint8Array,
): Promise<string> {
  await db
    .insertInto("meta")
    .values({ name: "installation_id", value: Buffer.from(random(16)).toString("hex") })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  const row = await db
    .selectFrom("meta")
    .select("value")
    .where("name", "=", "installation_id")
    .executeTakeFirstOrThrow();
  return row.value;
}

/** The first of the next `count` numbers of a series, which has no gaps: they are taken back with the transaction. */
export async function takeNumbers(
  tx: Transaction<Tables>,
  name: Tables["counters"]["name"],
  count: number,
): Promise<number> {
  const { value: last } = await tx
    .updateTable("counters")
    .set((eb) => ({ value: eb("value", "+", count) }))
    .where("name", "=", name)
    .returning("value")
    .executeTakeFirstOrThrow();
  return last - count + 1;
}

const CHUNK_ROWS: readonly number[] = [64, 8, 1];

/**
 * Cuts rows into pieces of few different lengths, so that inserts of many rows are few different statements: each has a bounded
 * number of parameters, and all of them together stay prepared.
 */
export function chunksOf<Row>(rows: readonly Row[]): Row[][] {
  const chunks: Row[][] = [];
  let start = 0;
  for (const size of CHUNK_ROWS) {
    for (; rows.length - start >= size; start += size) chunks.push(rows.slice(start, start + size));
  }
  return chunks;
}
