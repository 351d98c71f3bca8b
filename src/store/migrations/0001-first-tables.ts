import { type Kysely, sql } from "kysely";

/**
 * Only types that behave alike on SQLite and PostgreSQL: integer, bigint (epoch ms, GitLab's ids), text, bytea. SQLite
 * stores blobs in a `bytea` column untouched.
 */
export async function up(db: Kysely<never>): Promise<void> {
  await createJobs(db);
  await createMachines(db);
  await createEvents(db);
  await db.schema
    .createTable("meta")
    .addColumn("name", "text", (column) => column.primaryKey())
    .addColumn("value", "text", (column) => column.notNull())
    .execute();
}

async function createJobs(db: Kysely<never>): Promise<void> {
  await db.schema
    .createTable("jobs")
    .addColumn("id", "bigint", (column) => column.primaryKey())
    .addColumn("pool", "text", (column) => column.notNull())
    .addColumn("runner", "text", (column) => column.notNull())
    .addColumn("state", "text", (column) => column.notNull())
    .addColumn("name", "text", (column) => column.notNull())
    .addColumn("stage", "text", (column) => column.notNull())
    .addColumn("project", "text", (column) => column.notNull())
    .addColumn("cpus", "integer", (column) => column.notNull())
    .addColumn("memory_mib", "integer", (column) => column.notNull())
    .addColumn("disk_mib", "integer", (column) => column.notNull())
    .addColumn("timeout_ms", "bigint", (column) => column.notNull())
    .addColumn("attempt", "integer", (column) => column.notNull())
    .addColumn("machine_id", "text")
    .addColumn("trace_head", "text", (column) => column.notNull())
    .addColumn("trace_size", "bigint", (column) => column.notNull())
    .addColumn("claimed_at", "bigint", (column) => column.notNull())
    .addColumn("starting_at", "bigint")
    .addColumn("running_at", "bigint")
    .addColumn("failing_at", "bigint")
    .addColumn("finished_at", "bigint")
    .addColumn("report_at", "bigint")
    .addColumn("result", "text")
    .addColumn("reason", "text")
    .execute();
  await db.schema.createIndex("jobs_state").on("jobs").column("state").execute();
  await db.schema.createIndex("jobs_claimed_at").on("jobs").columns(["claimed_at", "id"]).execute();
  await db.schema
    .createTable("payloads")
    .addColumn("job_id", "bigint", (column) => column.primaryKey().references("jobs.id"))
    .addColumn("sealed", "bytea", (column) => column.notNull())
    .execute();
}

async function createMachines(db: Kysely<never>): Promise<void> {
  await db.schema
    .createTable("machines")
    .addColumn("id", "text", (column) => column.primaryKey())
    .addColumn("job_id", "bigint", (column) => column.references("jobs.id"))
    .addColumn("pool", "text", (column) => column.notNull())
    .addColumn("driver", "text", (column) => column.notNull())
    .addColumn("host", "text", (column) => column.notNull())
    .addColumn("image", "text", (column) => column.notNull())
    .addColumn("cpus", "integer", (column) => column.notNull())
    .addColumn("memory_mib", "integer", (column) => column.notNull())
    .addColumn("disk_mib", "integer", (column) => column.notNull())
    .addColumn("state", "text", (column) => column.notNull())
    .addColumn("reason", "text")
    .addColumn("created_at", "bigint", (column) => column.notNull())
    .addColumn("booting_at", "bigint")
    .addColumn("heard_at", "bigint")
    .addColumn("ready_at", "bigint")
    .addColumn("busy_at", "bigint")
    .addColumn("stopping_at", "bigint")
    .addColumn("gone_at", "bigint")
    .execute();
  await db.schema.createIndex("machines_state").on("machines").column("state").execute();
  await db.schema.createIndex("machines_created_at").on("machines").columns(["created_at", "id"]).execute();
  await db.schema.createIndex("machines_job_id").on("machines").column("job_id").execute();
}

/**
 * Events refer to jobs and machines without a foreign key: some are about machines that the store never knew. Their
 * numbers come from a counter row, not from a sequence of the database: sequences give out numbers before the commit, so
 * with several writers a reader that follows the log could pass over one.
 */
async function createEvents(db: Kysely<never>): Promise<void> {
  await db.schema
    .createTable("events")
    .addColumn("seq", "bigint", (column) => column.primaryKey())
    .addColumn("at", "bigint", (column) => column.notNull())
    .addColumn("kind", "text", (column) => column.notNull())
    .addColumn("job_id", "bigint")
    .addColumn("machine_id", "text")
    .addColumn("detail", "text", (column) => column.notNull())
    .execute();
  await db.schema.createIndex("events_job_id").on("events").columns(["job_id", "seq"]).execute();
  await db.schema.createIndex("events_machine_id").on("events").columns(["machine_id", "seq"]).execute();
  await db.schema
    .createTable("counters")
    .addColumn("name", "text", (column) => column.primaryKey())
    .addColumn("value", "bigint", (column) => column.notNull())
    .execute();
  await sql`insert into counters (name, value) values ('event', 0)`.execute(db);
}
