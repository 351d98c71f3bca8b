/** The SQLite file: opened so that a power cut loses nothing that was answered, and brought to the newest schema. */
import { type FileHandle, open } from "node:fs/promises";
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import {
  type Dialect,
  type Kysely,
  SqliteAdapter,
  type SqliteDatabase,
  SqliteDialect,
  type SqliteStatement,
  sql,
} from "kysely";
import { Migrator } from "kysely/migration";
import { StoreError } from "./errors.ts";
import { up as createFirstTables } from "./migrations/0001-first-tables.ts";
import { up as createWebhooksAndRunners } from "./migrations/0002-webhooks-and-runners.ts";
import { up as createMachineLinks } from "./migrations/0003-machine-links.ts";
import { up as createDrainedHosts } from "./migrations/0004-drained-hosts.ts";
import { up as createFailureCauses } from "./migrations/0005-failure-causes.ts";
import { up as createUsage } from "./migrations/0006-usage.ts";
import { up as createJobTraces } from "./migrations/0007-job-traces.ts";
import type { Tables } from "./tables.ts";

export const IN_MEMORY = ":memory:";

const BUSY_TIMEOUT_MS = 5_000;

/**
 * Lets Kysely's SQLite dialect run on Node's built-in engine. `synchronous = normal`: a commit survives a crash of the
 * program; `sqliteFlush` makes it survive a power cut without holding up the whole program while the disk works, as
 * `full` would. `secure_delete`: what is erased is overwritten; the write-ahead log may keep old pages until its
 * next checkpoint, and there payloads are as encrypted as in the table.
 */
export function sqliteDialect(path: string, limits: { maxPages?: number } = {}): Dialect {
  const db = new DatabaseSync(path);
  try {
    if (limits.maxPages !== undefined) db.exec(`pragma max_page_count = ${limits.maxPages}`);
    db.exec(`pragma busy_timeout = ${BUSY_TIMEOUT_MS}`);
    if (path !== IN_MEMORY) db.exec("pragma journal_mode = wal; pragma synchronous = normal");
    db.exec("pragma foreign_keys = on; pragma secure_delete = on; pragma trusted_schema = off");
    checkPages(db);
  } catch (error) {
    db.close();
    throw error;
  }
  return toDialect(db);
}

export interface Flush {
  /** Resolves when everything committed so far is on the disk. */
  flush(): Promise<void>;
  /** To be called after the database was closed. */
  close(): Promise<void>;
}

/**
 * For the database at `path`: its write-ahead log holds every commit. The log is one and the same file while the database is open, and
 * is opened once; a flush waits for the disk, and for nothing else.
 */
export function sqliteFlush(path: string): Flush {
  let log: FileHandle | undefined;
  return {
    async flush() {
      log ??= await open(`${path}-wal`, "r+");
      await log.datasync();
    },
    async close() {
      await log?.close();
      log = undefined;
    },
  };
}

/** For the command line while no daemon runs: sees all, changes nothing. */
export function readOnlySqliteDialect(path: string): Dialect {
  const db = new DatabaseSync(path, { readOnly: true });
  db.exec(`pragma busy_timeout = ${BUSY_TIMEOUT_MS}`);
  return toDialect(db);
}

/** Damage is better found at the start than in the middle of a job. */
function checkPages(db: DatabaseSync): void {
  const finding = db.prepare("pragma quick_check(1)").get()?.["quick_check"];
  if (finding === "ok") return;
  const SQLITE_CORRUPT = 11;
  throw Object.assign(new Error(String(finding)), { errcode: SQLITE_CORRUPT });
}

function toDialect(db: DatabaseSync): Dialect {
  const dialect = new SqliteDialect({ database: toKyselyDatabase(db) });
  return {
    createDriver: () => dialect.createDriver(),
    createQueryCompiler: () => dialect.createQueryCompiler(),
    createIntrospector: (kysely) => dialect.createIntrospector(kysely),
    // Kysely says that SQLite has no transactional DDL, for the sake of old versions; it does.
    createAdapter: () =>
      Object.defineProperty(new SqliteAdapter(), "supportsTransactionalDdl", { value: true }),
  };
}

function toKyselyDatabase(db: DatabaseSync): SqliteDatabase {
  const statements = new Map<string, SqliteStatement>();
  return {
    close: () => db.close(),
    prepare(sql) {
      // After some errors (a full disk among them) SQLite has rolled back by itself, and would refuse to do it again.
      if (sql === "rollback" && !db.isTransaction) return prepare(db, "select 1");
      const known = statements.get(sql) ?? prepare(db, sql);
      statements.set(sql, known);
      return known;
    },
  };
}

function prepare(db: DatabaseSync, sql: string): SqliteStatement {
  const statement: StatementSync = db.prepare(sql);
  const values = (parameters: readonly unknown[]) => parameters as SQLInputValue[];
  return {
    reader: statement.columns().length > 0,
    all: (parameters) => statement.all(...values(parameters)),
    run: (parameters) => statement.run(...values(parameters)),
    iterate: (parameters) => statement.iterate(...values(parameters)),
  };
}

/** In order, and only ever added to. Imported one by one so that a bundle carries them. */
const migrations = {
  "0001-first-tables": { up: createFirstTables },
  "0002-webhooks-and-runners": { up: createWebhooksAndRunners },
  "0003-machine-links": { up: createMachineLinks },
  "0004-drained-hosts": { up: createDrainedHosts },
  "0005-failure-causes": { up: createFailureCauses },
  "0006-usage": { up: createUsage },
  "0007-job-traces": { up: createJobTraces },
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
