import { type FileHandle, open } from "node:fs/promises";
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import {
  type Dialect,
  SqliteAdapter,
  type SqliteDatabase,
  SqliteDialect,
  type SqliteStatement,
} from "kysely";

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
