import type { Transaction } from "kysely";
import type { Tables } from "./tables.ts";

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
