import { type Kysely, sql } from "kysely";

/** What comes in by webhook, and the runners made for it. Types as in 0001. */
export async function up(db: Kysely<never>): Promise<void> {
  await createDeliveries(db);
  await createRunners(db);
  // Old events are looked for by their time. Their numbers follow it, but tell no query where to stop.
  await db.schema.createIndex("events_at").on("events").column("at").execute();
}

/** `seq` is the order of receipt: one millisecond holds many deliveries. */
async function createDeliveries(db: Kysely<never>): Promise<void> {
  await db.schema
    .createTable("deliveries")
    .addColumn("key", "text", (column) => column.primaryKey())
    .addColumn("seq", "bigint", (column) => column.notNull())
    .addColumn("event", "text", (column) => column.notNull())
    .addColumn("project_id", "bigint")
    .addColumn("job_id", "bigint")
    .addColumn("status", "text")
    .addColumn("received_at", "bigint", (column) => column.notNull())
    .execute();
  await db.schema
    .createIndex("deliveries_received_at")
    .on("deliveries")
    .columns(["received_at", "seq"])
    .execute();
  await db.schema.createIndex("deliveries_job_id").on("deliveries").columns(["job_id", "seq"]).execute();
  await sql`insert into counters (name, value) values ('delivery', 0)`.execute(db);
  await db.schema
    .createTable("projects")
    .addColumn("id", "bigint", (column) => column.primaryKey())
    .addColumn("path", "text", (column) => column.notNull())
    .addColumn("hooked_at", "bigint")
    .addColumn("read_at", "bigint")
    .execute();
}

/**
 * One runner at a time for a pool. The name of a pool holds all its tags, which people choose, and may be longer than what
 * PostgreSQL takes into an index: so its digest is what has to be unique.
 */
async function createRunners(db: Kysely<never>): Promise<void> {
  await db.schema
    .createTable("runners")
    .addColumn("key", "text", (column) => column.primaryKey())
    .addColumn("gitlab_id", "bigint")
    .addColumn("state", "text", (column) => column.notNull())
    .addColumn("pool", "text", (column) => column.notNull())
    .addColumn("pool_digest", "text", (column) => column.notNull())
    .addColumn("tags", "text", (column) => column.notNull())
    .addColumn("job_id", "bigint")
    .addColumn("cpus", "integer", (column) => column.notNull())
    .addColumn("memory_mib", "integer", (column) => column.notNull())
    .addColumn("disk_mib", "integer", (column) => column.notNull())
    .addColumn("token_expires_at", "bigint")
    .addColumn("created_at", "bigint", (column) => column.notNull())
    .addColumn("active_at", "bigint")
    .addColumn("used_at", "bigint", (column) => column.notNull())
    .addColumn("verified_at", "bigint")
    .addColumn("gone_at", "bigint")
    .addColumn("reason", "text")
    .execute();
  await sql`create unique index runners_pool on runners (pool_digest) where state <> 'gone'`.execute(db);
  await db.schema.createIndex("runners_state").on("runners").columns(["state", "gone_at"]).execute();
  await db.schema
    .createTable("runner_tokens")
    .addColumn("key", "text", (column) => column.primaryKey().references("runners.key"))
    .addColumn("sealed", "bytea", (column) => column.notNull())
    .execute();
}
