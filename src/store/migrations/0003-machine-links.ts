import type { Kysely } from "kysely";

/**
 * By what machines on other hosts prove who they are. Apart from `machines`, so that no list ever reads a hash and erasing is
 * deleting a row.
 */
export async function up(db: Kysely<never>): Promise<void> {
  await db.schema
    .createTable("machine_links")
    .addColumn("machine_id", "text", (column) => column.primaryKey().references("machines.id"))
    .addColumn("secret_hash", "text", (column) => column.notNull())
    .execute();
}
