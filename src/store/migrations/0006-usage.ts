import type { Kysely } from "kysely";

/** How long a job had waited in GitLab, and what its machine has used at most. Null for jobs of releases before. Types as in 0001. */
export async function up(db: Kysely<never>): Promise<void> {
  await db.schema.alterTable("jobs").addColumn("queued_ms", "bigint").execute();
  await db.schema.alterTable("jobs").addColumn("peak_memory_mib", "integer").execute();
  await db.schema.alterTable("jobs").addColumn("peak_disk_mib", "integer").execute();
}
