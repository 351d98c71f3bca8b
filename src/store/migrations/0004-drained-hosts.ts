import type { Kysely } from "kysely";

/** Hosts that take nothing new; a row is one of them. Types as in 0001. */
export async function up(db: Kysely<never>): Promise<void> {
  await db.schema
    .createTable("drained_hosts")
    .addColumn("key", "text", (column) => column.primaryKey())
    .addColumn("drained_at", "bigint", (column) => column.notNull())
    .execute();
}
