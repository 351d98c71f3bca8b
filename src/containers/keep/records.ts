/**
 * What is known of the files of the cache: a SQLite file beside them, which several processes share. Every change of files that others must
 * not see half done is made within one transaction of it: the kernel ends that with the process, however the process ends.
 */

import { randomBytes } from "node:crypto";
import { chmodSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import { describeError } from "../../base/errors.ts";
import { ContainerError } from "../errors.ts";

const VERSION = 1;
/** In the cache's directory; other programs see by it that there is one. */
export const RECORDS_FILE = "records.sqlite";

const schema = `
  create table if not exists settings (name text primary key, value blob not null) strict;
  create table if not exists blobs (
    digest text primary key, bytes integer not null, used_at integer not null
  ) strict;
  create table if not exists disks (
    key text primary key, name text not null, manifest text not null, bytes integer not null,
    sha256 text not null, made_at integer not null, used_at integer not null
  ) strict;
  create table if not exists sources (
    digest text not null, registry text not null, primary key (digest, registry)
  ) strict, without rowid;
  create table if not exists readings (
    name text not null, reader text not null, digest text not null, read_at integer not null,
    primary key (name, reader)
  ) strict;
  create table if not exists pins (
    owner text not null, kind text not null, id text not null, until_at integer,
    primary key (owner, kind, id)
  ) strict;
  create index if not exists pins_by_id on pins (kind, id);
`;

/** Who pins: a machine for as long as it lives, or a process that works on it just now. */
export type Kind = "blob" | "disk";

export interface KeptDisk {
  readonly key: string;
  /** The image's, in full. */
  readonly name: string;
  readonly manifest: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly madeAt: number;
  readonly usedAt: number;
  readonly pinnedBy: number;
}

export class Records {
  readonly #db: DatabaseSync;
  readonly directory: string;

  private constructor(db: DatabaseSync, directory: string) {
    this.#db = db;
    this.directory = directory;
  }

  /** Throws `container_cache_broken`. */
  static open(directory: string): Records {
    const path = join(directory, RECORDS_FILE);
    try {
      const db = new DatabaseSync(path);
      // What a power cut takes away of the last rows is found again by looking at the files, or fetched anew.
      db.exec("pragma busy_timeout = 10000; pragma journal_mode = wal; pragma synchronous = normal");
      chmodSync(path, 0o600);
      const records = new Records(db, directory);
      records.transact(() => records.#prepare());
      return records;
    } catch (cause) {
      if (cause instanceof ContainerError) throw cause;
      throw broken(directory, describeError(cause), cause);
    }
  }

  #prepare(): void {
    const { user_version: version } = this.#db.prepare("pragma user_version").get() as {
      user_version: number;
    };
    if (version > VERSION) throw broken(this.directory, "it was made by a later FireRunner");
    this.#db.exec(`${schema}; pragma user_version = ${VERSION}`);
    this.#db
      .prepare("insert or ignore into settings (name, value) values ('reader key', ?)")
      .run(randomBytes(32));
  }

  /** Nobody else changes anything meanwhile. Must not wait for anything. */
  transact<T>(work: () => T): T {
    this.#db.exec("begin immediate");
    try {
      const value = work();
      this.#db.exec("commit");
      return value;
    } catch (error) {
      this.#db.exec("rollback");
      throw error;
    }
  }

  run(sql: string, ...values: SQLInputValue[]): void {
    this.#db.prepare(sql).run(...values);
  }

  all<Row>(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#db.prepare(sql).all(...values) as Row[];
  }

  one<Row>(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.#db.prepare(sql).get(...values) as Row | undefined;
  }

  /** Whether a registry has given the bytes of this digest, whoever else has. */
  isSource(digest: string, registry: string): boolean {
    const sql = "select 1 from sources where digest = ? and registry = ?";
    return this.one(sql, digest, registry) !== undefined;
  }

  addSource(digest: string, registry: string): void {
    this.run("insert or ignore into sources (digest, registry) values (?, ?)", digest, registry);
  }

  forgetBlob(digest: string): void {
    this.run("delete from blobs where digest = ?", digest);
    this.run("delete from sources where digest = ?", digest);
  }

  /** A secret of this directory, with which logins are told apart without being kept. */
  readerKey(): Uint8Array {
    const row = this.one<{ value: Uint8Array }>("select value from settings where name = 'reader key'");
    if (row === undefined) throw broken(this.directory, "its key is gone");
    return row.value;
  }

  close(): void {
    this.#db.close();
  }
}

/** As a condition of SQL, with the time as its one value. */
export function unpinned(kind: Kind, id: string): string {
  return `not exists (select 1 from pins where kind = '${kind}' and pins.id = ${id}
    and (until_at is null or until_at > ?))`;
}

function broken(directory: string, problem: string, cause?: unknown): ContainerError {
  return new ContainerError(
    "container_cache_broken",
    `job images in ${directory} cannot be used: ${problem}`,
    {
      ...(cause === undefined ? {} : { cause }),
      hint: "stop what uses the directory and remove it: all that is in it can be fetched again",
    },
  );
}
