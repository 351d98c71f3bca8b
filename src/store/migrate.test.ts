import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CamelCasePlugin, type Dialect, Kysely, PGliteDialect, sql } from "kysely";
import { Migrator } from "kysely/migration";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { lastingPglite } from "../../test/builders/databases.ts";
import { aDelivery } from "../../test/builders/delivery.ts";
import { aClaim } from "../../test/builders/job.ts";
import { aGivenRunner, aNewRunner } from "../../test/builders/managed-runner.ts";
import { systemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { createStore } from "./create-store.ts";
import { up as createFirstTables } from "./migrations/0001-first-tables.ts";
import { up as createWebhooksAndRunners } from "./migrations/0002-webhooks-and-runners.ts";
import { up as createMachineLinks } from "./migrations/0003-machine-links.ts";
import { up as createDrainedHosts } from "./migrations/0004-drained-hosts.ts";
import { up as createFailureCauses } from "./migrations/0005-failure-causes.ts";
import { up as createUsage } from "./migrations/0006-usage.ts";
import { sqliteDialect } from "./sqlite.ts";

/** In the order of the releases: the first of them are the schema of an older one. */
const steps = [
  ["0001-first-tables", { up: createFirstTables }],
  ["0002-webhooks-and-runners", { up: createWebhooksAndRunners }],
  ["0003-machine-links", { up: createMachineLinks }],
  ["0004-drained-hosts", { up: createDrainedHosts }],
  ["0005-failure-causes", { up: createFailureCauses }],
  ["0006-usage", { up: createUsage }],
] as const;

/** An empty database with the schema that the first so many migrations make. */
async function openOlder(dialect: Dialect, migrations: number): Promise<Kysely<never>> {
  const db = new Kysely<never>({ dialect, plugins: [new CamelCasePlugin()] });
  const older = Object.fromEntries(steps.slice(0, migrations));
  const migrator = new Migrator({ db, provider: { getMigrations: async () => older } });
  const { error } = await migrator.migrateToLatest();
  if (error !== undefined) throw error;
  return db;
}

/** A database as the first version of FireRunner left it: a finished job, its machine that is gone, three events. */
async function writeFirstVersion(dialect: Dialect): Promise<void> {
  const db = await openOlder(dialect, 1);
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

/** A job in each state and of each kind of end, as releases without causes of failures left them. */
const jobsWithoutCause = [
  [1, "claimed", null, null],
  [2, "starting", null, null],
  [3, "running", null, null],
  [4, "failing", null, "the job's time limit of 1h0m is over and its runner did not end it"],
  [5, "failing", null, "the machine crashed"],
  [6, "finished", "success", null],
  [7, "finished", "failed", null],
  [8, "finished", "failed", "the runner reported job_execution_timeout"],
  [9, "finished", "failed", "no machine took it in 3 attempts; the last one: the machine crashed"],
  [10, "finished", "canceled", "canceled in GitLab"],
] as const;

async function writeWithoutCauses(dialect: Dialect): Promise<void> {
  const db = await openOlder(dialect, 4);
  for (const [id, state, result, reason] of jobsWithoutCause) {
    await sql`insert into jobs (id, pool, runner, state, name, stage, project, cpus, memory_mib, disk_mib, timeout_ms,
      attempt, trace_head, trace_size, claimed_at, result, reason)
      values (${id}, 'small', 'glrt-abcd', ${state}, 'build', 'test', 'group/project', 1, 1024, 4096, 3600000,
      1, '', 0, ${id}, ${result}, ${reason})`.execute(db);
  }
  await sql`insert into machines (id, job_id, pool, driver, host, image, cpus, memory_mib, disk_mib, state, created_at)
    values ('fr-aaaaaaaa', 3, 'small', 'fake', 'local', 'sha256:0', 1, 1024, 4096, 'busy', 1100)`.execute(db);
  await db.destroy();
}

/** A job in each state, as releases that did not measure left them. */
async function writeWithoutUsage(dialect: Dialect): Promise<void> {
  const db = await openOlder(dialect, 5);
  for (const [at, state] of ["claimed", "starting", "running", "failing", "finished"].entries()) {
    const [id, machine] = [at + 1, at === 0 ? null : `fr-${String(at).repeat(8)}`];
    await sql`insert into jobs (id, pool, runner, state, name, stage, project, cpus, memory_mib, disk_mib, timeout_ms,
      attempt, machine_id, trace_head, trace_size, claimed_at, running_at, finished_at, result)
      values (${id}, 'small', 'glrt-abcd', ${state}, 'build', 'test', 'group/project', 2, 1024, 4096, 3600000,
      1, ${machine}, '', 0, 1000, ${at < 2 ? null : 3000}, ${at === 4 ? 61000 : null}, ${at === 4 ? "success" : null})`.execute(
      db,
    );
    if (machine === null) continue;
    await sql`insert into machines (id, job_id, pool, driver, host, image, cpus, memory_mib, disk_mib, state, created_at,
      gone_at) values (${machine}, ${id}, 'small', 'fake', 'local', 'sha256:0', 2, 1024, 4096,
      ${at === 4 ? "gone" : at === 1 ? "booting" : "busy"}, 1000, ${at === 4 ? 61000 : null})`.execute(db);
  }
  await db.destroy();
}

/** A job in each state, as releases without traces left them. */
async function writeWithoutTraces(dialect: Dialect): Promise<void> {
  const db = await openOlder(dialect, 6);
  for (const [at, state] of ["claimed", "starting", "running", "failing", "finished"].entries()) {
    await sql`insert into jobs (id, pool, runner, state, name, stage, project, cpus, memory_mib, disk_mib, timeout_ms,
      attempt, trace_head, trace_size, claimed_at, finished_at, result)
      values (${at + 1}, 'small', 'glrt-abcd', ${state}, 'build', 'test', 'group/project', 1, 1024, 4096, 3600000,
      1, '', 0, 1000, ${state === "finished" ? 2000 : null}, ${state === "finished" ? "success" : null})`.execute(
      db,
    );
  }
  await db.destroy();
}

async function connectToPglite(): Promise<() => Dialect> {
  const { pglite } = await lastingPglite();
  return () => new PGliteDialect({ pglite });
}

describe("a database of a version before", () => {
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "fr-migrate-"));
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));

  const databases = [
    ["node:sqlite", async () => () => sqliteDialect(join(directory, "firerunner.db"))],
    ["PGlite", connectToPglite],
  ] as const;

  test.each(databases)(
    "(the first) is brought up to date on %s with all that is in it",
    async (_name, start) => {
      const connect = await start();
      await writeFirstVersion(connect());
      const keyFile = join(directory, "key");

      const store = await createStore({ database: connect(), keyFile, clock: systemClock, log: silentLog });

      expect(store.installationId).toBe("the-installation");
      expect(await store.job(4711)).toMatchObject({
        state: "finished",
        result: "success",
        finishedAt: 2_000,
      });
      expect(await store.machine("fr-aaaaaaaa")).toMatchObject({ state: "gone", jobId: 4711 });
      expect((await store.events({ jobId: 4711 })).map(({ seq }) => seq)).toEqual([1, 2, 3]);
      expect(await store.keepDeliveries([aDelivery()])).toEqual([true]);
      expect(await store.addRunner(aNewRunner())).toBe(true);
      expect(await store.activateRunner("r-aaaaaaaa", aGivenRunner())).toBe(true);
      expect((await store.events({ afterSeq: 3 })).map(({ seq }) => seq)).toEqual([4, 5]);
      await store.close();
    },
  );

  test.each(databases)(
    "without causes of failures gets them from the reasons on %s",
    async (_name, start) => {
      const connect = await start();
      await writeWithoutCauses(connect());

      const keyFile = join(directory, "key");
      const store = await createStore({ database: connect(), keyFile, clock: systemClock, log: silentLog });

      const jobs = (await store.jobs({ limit: 20 })).toReversed();
      expect(jobs.map(({ id, state, result, reason }) => [id, state, result, reason])).toEqual(
        jobsWithoutCause,
      );
      expect(jobs.map(({ cause }) => cause)).toEqual([
        ...[null, null, null, "time-limit", "machine"],
        ...[null, null, "time-limit", "never-started", null],
      ]);
      expect(await store.machine("fr-aaaaaaaa")).toMatchObject({ state: "busy", cause: null });
      expect(await store.finishJob(4, "failed")).toBe(true);
      expect(await store.failJob(3, { reason: "its host is full", cause: "host-disk" })).toBe(true);
      await store.close();
    },
  );

  test.each(databases)(
    "that measured nothing keeps its jobs on %s, and measures from now on",
    async (_name, start) => {
      const connect = await start();
      await writeWithoutUsage(connect());

      const keyFile = join(directory, "key");
      const store = await createStore({ database: connect(), keyFile, clock: systemClock, log: silentLog });

      const unknown = { queuedMs: null, peakMemoryMib: null, peakDiskMib: null };
      const jobs = (await store.jobs()).toReversed();
      expect(jobs).toMatchObject(
        ["claimed", "starting", "running", "failing", "finished"].map((state) => ({ state, ...unknown })),
      );
      const before = { by: "pool", since: 0, until: 61_000 } as const;
      expect(await store.usage(before)).toMatchObject([
        {
          jobs: 5,
          unfinished: 4,
          vcpuMs: 4 * 2 * 60_000,
          medianWaitMs: 2_000,
          memoryMeasured: 0,
          peakMemoryMib: null,
        },
      ]);
      expect(await store.notePeaks(3, "fr-22222222", { memoryMib: 300, diskMib: 40 })).toBe(true);
      expect(await store.notePeaks(5, "fr-44444444", { memoryMib: 200 })).toBe(true);
      expect(await store.usage(before)).toMatchObject([
        { memoryMeasured: 2, peakMemoryMib: 300, peakDiskMib: 40 },
      ]);
      await store.close();
    },
  );

  test.each(databases)(
    "without traces has its jobs end untraced on %s, and traces those claimed from now on",
    async (_name, start) => {
      const connect = await start();
      await writeWithoutTraces(connect());

      const keyFile = join(directory, "key");
      const store = await createStore({ database: connect(), keyFile, clock: systemClock, log: silentLog });

      for (const id of [1, 2, 3, 4]) expect(await store.finishJob(id, "success")).toBe(true);
      expect(await store.dueTraces(10)).toEqual([]);
      expect(await store.trace(1)).toBeUndefined();
      const trace = { traceId: "4bf92f3577b34da6a3ce929d0e0e4736", parentSpanId: null };
      const ids = { pipelineId: 99, projectId: 7 };
      expect(await store.claim(aClaim({ jobId: 6, trace: { ...trace, ...ids } }))).toBe(true);
      expect(await store.finishJob(6, "canceled")).toBe(true);
      expect(await store.dueTraces(10)).toEqual([{ jobId: 6, ...trace, ...ids }]);
      await store.close();
    },
  );
});
