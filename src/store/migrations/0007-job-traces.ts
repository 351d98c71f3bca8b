import { type Kysely, sql } from "kysely";

/**
 * Which trace a job belongs to, and whether it is still to be made. Apart from `jobs`, so that no list of those reads it, and there only
 * for jobs that are traced: jobs of releases before have none. Types as in 0001.
 */
export async function up(db: Kysely<never>): Promise<void> {
  await db.schema
    .createTable("job_traces")
    .addColumn("job_id", "bigint", (column) => column.primaryKey().references("jobs.id"))
    .addColumn("trace_id", "text", (column) => column.notNull())
    .addColumn("parent_span_id", "text")
    .addColumn("pipeline_id", "bigint")
    .addColumn("project_id", "bigint")
    .addColumn("settled_at", "bigint")
    .execute();
  await sql`create index job_traces_unsettled on job_traces (job_id) where settled_at is null`.execute(db);
}
