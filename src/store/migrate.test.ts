import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CamelCasePlugin, type Dialect, Kysely, PGliteDialect, sql } from "kysely";
import { Migrator } from "kysely/migration";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { lastingPglite } from "../../test/builders/databases.ts";
import { aDelivery } from "../../test/builders/delivery.ts";
import { aGivenRunner, aNewRunner } from "../../test/builders/managed-runner.ts";
import { systemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { createStore } from "./create-store.ts";
import { up as createFirstTables } from "./migrations/0001-first-tables.ts";
import { sqliteDialect } from "./sqlite.ts";

/** A database as the first version of FireRunner left it: a finished job, its machine that is gone, three events. */
async function writeFirstVersion(dialect: Dialect): Promise<void> {
  const db = new Kysely<never>({ dialect, plugins: [new CamelCasePlugin()] });
  const migrations = { "0001-first-tables": { up: createFirstTables } };
  const migrator = new Migrator({ db, provider: { getMigrations: async () => migrations } });
  const { error } = await migrator.migrateToLatest();
  if (error !== undefined) throw error;
  await sql`insert into jobs (id, pool, runner, state, name, stage, project, cpus, memory_mib, disk_mib, timeout_ms,
    attempt, trace_head, trace_size, claimed_at, finished_at, result)
    values (4711, 'small', 'glrt-abcd', 'finished', 'build', 'test', 'group/project', 1, 1024, 4096, 3600000,
    1, '', 0, 1000, 2000, 'success')`.execute(db);
  await sql`insert into machines (id, job_id, pool, driver, host, image, cpus, memory_mib, disk_mib, state, created_at)
    values ('fr-aaaaaaaa', 4711, 'small', 'fake', 'local', 'sha256:0', 1, 1024, 4096, 'gone', 1100)`.execute(
    db,
  );
  await sql`insert into events (seq, at, kind, job_id, machine_id, detail) values
    (1, 1000, 'job:claimed', 4711, null, '{}'), (2, 1100, 'machine:creating', 4711, 'fr-aaaaaaaa', '{}'),
    (3, 2000, 'job:finished', 4711, null, '{}')`.execute(db);
  await sql`update counters set value = 3 where name = 'event'`.execute(db);
  await sql`insert into meta (name, value) values ('installation_id', 'the-installation')`.execute(db);
  await db.destroy();
}

async function connectToPglite(): Promise<() => Dialect> {
  const { pglite } = await lastingPglite();
  return () => new PGliteDialect({ pglite });
}

describe("a database of the first version", () => {
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "fr-migrate-"));
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));

  test.each([
    ["node:sqlite", async () => () => sqliteDialect(join(directory, "firerunner.db"))],
    ["PGlite", connectToPglite],
  ])("is brought up to date on %s with all that is in it", async (_name, start) => {
    const connect = await start();
    await writeFirstVersion(connect());
    const keyFile = join(directory, "key");

    const store = await createStore({ database: connect(), keyFile, clock: systemClock, log: silentLog });

    expect(store.installationId).toBe("the-installation");
    expect(await store.job(4711)).toMatchObject({ state: "finished", result: "success", finishedAt: 2_000 });
    expect(await store.machine("fr-aaaaaaaa")).toMatchObject({ state: "gone", jobId: 4711 });
    expect((await store.events({ jobId: 4711 })).map(({ seq }) => seq)).toEqual([1, 2, 3]);
    expect(await store.keepDeliveries([aDelivery()])).toEqual([true]);
    expect(await store.addRunner(aNewRunner())).toBe(true);
    expect(await store.activateRunner("r-aaaaaaaa", aGivenRunner())).toBe(true);
    expect((await store.events({ afterSeq: 3 })).map(({ seq }) => seq)).toEqual([4, 5]);
    await store.close();
  });
});
