/** Opens the store and puts its parts together: key, database, schema, writer, and the calls of each kind of record. */
import { randomBytes } from "node:crypto";
import { dirname } from "node:path";
import { type Dialect, Kysely } from "kysely";
import type { Clock } from "../base/clock.ts";
import { createListeners } from "../base/listeners.ts";
import type { Log } from "../base/log.ts";
import type { LifecycleEvent } from "../domain/events.ts";
import { createKeepDeliveries, createProjectChanges } from "./deliveries.ts";
import { StoreError, toStoreError } from "./errors.ts";
import {
  ensurePrivateFile,
  installationKey,
  makeStateDirectory,
  refuseWrongKey,
  retireUnreadable,
} from "./installation-key.ts";
import { createTraceChanges } from "./job-traces.ts";
import { createJobMoves, readPayload } from "./jobs.ts";
import { createLive } from "./live.ts";
import { checkLink, createDrainedHostChanges, createMachineLinks, createMachineMoves } from "./machines.ts";
import { prune } from "./prune.ts";
import { createReads, named } from "./reads.ts";
import { createRunnerMoves, readRunnerToken } from "./runners.ts";
import { type Flush, IN_MEMORY, migrate, sqliteDialect, sqliteFlush } from "./sqlite.ts";
import type { Store } from "./store.ts";
import { ColumnNames, installationIdOf, type Tables } from "./tables.ts";
import { createVault, type Vault } from "./vault.ts";
import { createNote, createWriter, noReserve, type Reserve } from "./writer.ts";

export interface StoreOptions {
  /** An SQLite file, made when it is missing (`:memory:` for none), or another database that Kysely speaks to. */
  readonly database: string | Dialect;
  /** Holds the installation's key; made at first start. */
  readonly keyFile: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Space that is kept for the store's own writing on a full disk; none when left out. */
  readonly reserve?: Reserve;
  /** Told of each change that could not be written. Must not throw. */
  readonly onWriteError?: (() => void) | undefined;
  /** Bytes for keys, nonces and the installation's id. */
  readonly random?: (size: number) => Uint8Array;
}

/**
 * Opens the store, bringing its schema up to date. Throws StoreError. One process at a time may write: hold the lock of
 * installation-key.ts first.
 */
export async function createStore(options: StoreOptions): Promise<Store> {
  const { reserve = noReserve } = options;
  const store = await openStore(options, reserve).catch(async (error: unknown) => {
    const isFull = error instanceof StoreError && error.code === "store_full";
    if (!isFull || !(await reserve.release())) throw error;
    return await openStore(options, reserve);
  });
  await reserve.keep();
  return store;
}

async function openStore(options: StoreOptions, reserve: Reserve): Promise<Store> {
  const { clock, log, random = randomBytes } = options;
  const db = await openDatabase(options.database);
  try {
    await migrate(db);
    const vault = createVault(await installationKey(db, options.keyFile, random), random);
    await refuseWrongKey(db, vault, options.keyFile);
    const installationId = await installationIdOf(db, random);
    return await assemble({
      db,
      clock,
      log,
      vault,
      random,
      installationId,
      reserve,
      onWriteError: options.onWriteError,
      flush: flushOf(options.database),
    });
  } catch (error) {
    await db.destroy();
    throw toStoreError("opening the store", error);
  }
}

interface Parts {
  readonly db: Kysely<Tables>;
  readonly clock: Clock;
  readonly log: Log;
  readonly vault: Vault;
  readonly random: (size: number) => Uint8Array;
  readonly installationId: string;
  readonly reserve: Reserve;
  readonly onWriteError: StoreOptions["onWriteError"];
  readonly flush: Flush;
}

async function assemble({
  db,
  clock,
  log,
  vault,
  random,
  installationId,
  reserve,
  onWriteError,
  flush,
}: Parts): Promise<Store> {
  const listeners = createListeners<LifecycleEvent>((error) =>
    log.error({ err: error }, "event listener failed"),
  );
  const reads = createReads(db);
  const live = createLive(reads);
  const { write, close } = createWriter({
    ...{ db, clock, listeners, reserve },
    watch: live,
    flush: flush.flush,
    onError: onWriteError,
  });
  await retireUnreadable(db, vault, write);
  return {
    installationId,
    machineToken: (machineId) => vault.machineToken(machineId),
    ...reads,
    ...live.reads,
    payload: (jobId) => named(`reading the payload of job ${jobId}`, () => readPayload(db, vault, jobId)),
    runnerToken: (key) => named(`reading the token of runner ${key}`, () => readRunnerToken(db, vault, key)),
    ...createJobMoves(write, vault),
    ...createTraceChanges(write),
    ...createMachineMoves(write),
    ...createMachineLinks(write, random),
    checkLink: (machineId, secret) =>
      named(`checking the link of ${machineId}`, () => checkLink(db, machineId, secret)),
    ...createRunnerMoves(write, vault),
    ...createProjectChanges(write),
    ...createDrainedHostChanges(write),
    keepDeliveries: createKeepDeliveries(write),
    note: createNote(write),
    onEvent: (listener) => listeners.add(listener),
    prune: (before) => prune(write, before),
    async close() {
      await close();
      await flush.close();
    },
  };
}

async function openDatabase(database: string | Dialect): Promise<Kysely<Tables>> {
  try {
    const dialect = typeof database === "string" ? await openSqlite(database) : database;
    return new Kysely<Tables>({ dialect, plugins: [new ColumnNames()] });
  } catch (error) {
    throw toStoreError("opening the database", error);
  }
}

/** A database server flushes each commit by itself, and one in memory has nothing to flush. */
function flushOf(database: string | Dialect): Flush {
  if (typeof database !== "string" || database === IN_MEMORY) {
    return { flush: async () => {}, close: async () => {} };
  }
  return sqliteFlush(database);
}

async function openSqlite(path: string): Promise<Dialect> {
  if (path !== IN_MEMORY) {
    await makeStateDirectory(dirname(path));
    await ensurePrivateFile(path);
  }
  return sqliteDialect(path);
}
