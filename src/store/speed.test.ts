import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { aClaim } from "../../test/builders/job.ts";
import { aNewMachine } from "../../test/builders/machine.ts";
import { systemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { createStore } from "./create-store.ts";
import type { Store } from "./store.ts";

const FINISHED_COUNT = 10_000;
const LIVE_COUNT = 200;

/** Bounds are some twenty times what a small, busy machine needs: they catch a scan of all rows, not a slow day. */
describe(`store with ${FINISHED_COUNT} finished and ${LIVE_COUNT} live jobs`, () => {
  let directory: string;
  let database: string;
  let store: Store;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "fr-speed-"));
    database = join(directory, "firerunner.db");
    store = await createStore(options());
    for (let jobId = 1; jobId <= LIVE_COUNT; jobId++) {
      await store.claim(aClaim({ jobId }));
      await store.startJob(jobId, aNewMachine({ id: `fr-${jobId}` }));
    }
    await store.close();
    addFinished();
    store = await createStore(options());
  });
  afterAll(async () => {
    await store.close();
    await rm(directory, { recursive: true, force: true });
  });

  function options() {
    return { database, keyFile: join(directory, "key"), clock: systemClock, log: silentLog };
  }

  /** Copies of the live rows under other ids, as the ends of moves leave them; quicker than 60,000 moves. */
  function addFinished(): void {
    const db = new DatabaseSync(database);
    const columns = (table: string) =>
      db
        .prepare(`select name from pragma_table_info('${table}')`)
        .all()
        .map((row) => String(row["name"]));
    const copy = (table: string, changed: Record<string, string>) =>
      `insert into ${table} select ${columns(table)
        .map((column) => changed[column] ?? column)
        .join(", ")} from ${table}, (with recursive n(i) as (select 1 union all select i + 1 from n
        where i < ${FINISHED_COUNT / LIVE_COUNT}) select i from n)`;
    const id = `id + i * ${LIVE_COUNT}`;
    db.exec(copy("jobs", { id, state: "'finished'", finished_at: "claimed_at", machine_id: "null" }));
    const machineId = `'fr-' || (job_id + i * ${LIVE_COUNT})`;
    const gone = { state: "'gone'", gone_at: "created_at", job_id: `job_id + i * ${LIVE_COUNT}` };
    db.exec(copy("machines", { id: machineId, ...gone }));
    db.close();
  }

  async function timed(work: () => Promise<unknown>): Promise<number> {
    const start = performance.now();
    await work();
    return performance.now() - start;
  }

  test("all live rows are read without looking at the finished ones", async () => {
    const ms = await timed(async () => {
      for (let round = 0; round < 20; round++) {
        expect(await store.jobs({ unfinished: true })).toHaveLength(LIVE_COUNT);
        expect(await store.machines({ live: true })).toHaveLength(LIVE_COUNT);
      }
    });

    expect(ms / 20).toBeLessThan(250);
  });

  test("the lists that are read in every round use an index", () => {
    const db = new DatabaseSync(database, { readOnly: true });
    const plan = (sql: string) =>
      db
        .prepare(`explain query plan ${sql}`)
        .all()
        .map((row) => String(row["detail"]))
        .join("; ");
    const newestFirst = "order by claimed_at desc, id desc";

    expect(plan(`select * from jobs where state in ('claimed', 'starting') ${newestFirst}`)).toContain(
      "USING INDEX jobs_state",
    );
    expect(plan(`select * from jobs ${newestFirst} limit 100`)).toContain("USING INDEX jobs_claimed_at");
    expect(
      plan("select * from machines where state in ('creating', 'booting') order by created_at desc, id desc"),
    ).toContain("USING INDEX machines_state");
    db.close();
  });

  test("a hundred jobs a second can be claimed, with every claim on the disk", async () => {
    const ms = await timed(async () => {
      for (let jobId = 1; jobId <= 100; jobId++) await store.claim(aClaim({ jobId: 1_000_000 + jobId }));
    });

    expect(ms).toBeLessThan(10_000);
  });

  test("opening does not take longer the more has ended", async () => {
    await store.close();

    const ms = await timed(async () => {
      store = await createStore(options());
    });

    expect(ms).toBeLessThan(5_000);
  });
});
