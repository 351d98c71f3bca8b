import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PGlite } from "@electric-sql/pglite";
import { type Dialect, PGliteDialect } from "kysely";
import { afterAll, afterEach, beforeAll, beforeEach, describe } from "vitest";
import { silentLog } from "../../src/base/log.ts";
import { createManualClock, type ManualClock } from "../../src/base/manual-clock.ts";
import { createStore } from "../../src/store/create-store.ts";
import type { Store } from "../../src/store/store.ts";

/** What a test of the store works with; fresh for every test. */
export interface StoreUnderTest {
  store: Store;
  clock: ManualClock;
  /** Closes the store and opens it again on the same data, as a restart does. */
  reopen(): Promise<void>;
}

interface TestDatabase {
  /** Opens what is there; again after a close: the same data. */
  connect(): string | Dialect;
  clear(): Promise<void>;
  stop(): Promise<void>;
}

const databases: Readonly<Record<string, (directory: string) => Promise<TestDatabase>>> = {
  "node:sqlite": startSqlite,
  PGlite: startPglite,
};

/** Runs the same tests on every database the store supports. */
export function describeOnEveryDatabase(title: string, define: (context: StoreUnderTest) => void): void {
  describe.each(Object.entries(databases))(`${title} on %s`, (_name, start) => {
    const context = {} as StoreUnderTest;
    let database: TestDatabase;
    let directory: string;
    const open = async () => {
      const keyFile = join(directory, "key");
      const { clock } = context;
      context.store = await createStore({ database: database.connect(), keyFile, clock, log: silentLog });
    };
    context.reopen = async () => {
      await context.store.close();
      await open();
    };

    beforeAll(async () => {
      directory = await mkdtemp(join(tmpdir(), "fr-store-"));
      database = await start(directory);
    });
    beforeEach(async () => {
      context.clock = createManualClock();
      await open();
    });
    afterEach(async () => {
      await context.store.close();
      await database.clear();
    });
    afterAll(async () => {
      await database.stop();
      await rm(directory, { recursive: true, force: true });
    });

    define(context);
  });
}

async function startSqlite(directory: string): Promise<TestDatabase> {
  const path = join(directory, "firerunner.db");
  return {
    connect: () => path,
    clear: async () => {
      for (const suffix of ["", "-wal", "-shm"]) await rm(path + suffix, { force: true });
    },
    stop: async () => {},
  };
}

/** One server and one schema for all tests of a suite: making them takes seconds. */
async function startPglite(): Promise<TestDatabase> {
  const { server, pglite } = await lastingPglite();
  return {
    connect: () => new PGliteDialect({ pglite }),
    clear: async () => {
      await server.exec(
        "truncate events, machine_links, machines, payloads, job_traces, jobs, deliveries, projects, runner_tokens, runners, drained_hosts, meta; update counters set value = 0",
      );
    },
    stop: () => server.close(),
  };
}

/** A server that closing a store does not end. */
export async function lastingPglite() {
  const server = await PGlite.create();
  const pglite: ConstructorParameters<typeof PGliteDialect>[0]["pglite"] = {
    closed: false,
    ready: true,
    waitReady: Promise.resolve(),
    query: (sql, parameters, options) => server.query(sql, parameters, options),
    transaction: (callback) => server.transaction((tx) => callback(tx)),
    close: async () => {},
  };
  return { server, pglite };
}
