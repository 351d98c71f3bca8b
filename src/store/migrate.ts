import { type Kysely, sql } from "kysely";
import { Migrator } from "kysely/migration";
import { StoreError } from "./errors.ts";
import { up as createFirstTables } from "./migrations/0001-first-tables.ts";
import { up as createWebhooksAndRunners } from "./migrations/0002-webhooks-and-runners.ts";
import { up as createMachineLinks } from "./migrations/0003-machine-links.ts";
import { up as createDrainedHosts } from "./migrations/0004-drained-hosts.ts";
import { up as createFailureCauses } from "./migrations/0005-failure-causes.ts";
import type { Tables } from "./tables.ts";

/** In order, and only ever added to. Imported one by one so that a bundle carries them. */
const migrations = {
  "0001-first-tables": { up: createFirstTables },
  "0002-webhooks-and-runners": { up: createWebhooksAndRunners },
  "0003-machine-links": { up: createMachineLinks },
  "0004-drained-hosts": { up: createDrainedHosts },
  "0005-failure-causes": { up: createFailureCauses },
};

/** Brings the schema up to this program's. All missing steps are one transaction: a crash leaves none half done. */
export async function migrate(db: Kysely<Tables>): Promise<void> {
  await refuseNewer(db);
  const migrator = new Migrator({ db, provider: { getMigrations: async () => migrations } });
  const { error } = await migrator.migrateToLatest();
  if (error !== undefined) throw error;
}

/** For readers, who may not change the schema: throws unless it is exactly this program's. */
export async function requireCurrentSchema(db: Kysely<Tables>): Promise<void> {
  const done = await refuseNewer(db);
  if (done.length === Object.keys(migrations).length) return;
  throw new StoreError("store_failed", "the database was written by an older FireRunner", {
    hint: "start FireRunner once: it brings the database up to date",
  });
}

async function refuseNewer(db: Kysely<Tables>): Promise<string[]> {
  const done = await migrationsDone(db);
  const unknown = done.find((name) => !(name in migrations));
  if (unknown === undefined) return done;
  throw new StoreError("store_newer", `the database was written by a newer FireRunner (it has ${unknown})`, {
    hint: "run the version of FireRunner that wrote it, or a later one",
  });
}

async function migrationsDone(db: Kysely<Tables>): Promise<string[]> {
  const tables = await db.introspection.getTables({ withInternalKyselyTables: true });
  if (!tables.some((table) => table.name === "kysely_migration")) return [];
  const { rows } = await sql<{ name: string }>`select name from kysely_migration order by name`.execute(db);
  return rows.map((row) => row.name);
}
