import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { aClaim } from "../../test/builders/job.ts";
import { aNewMachine } from "../../test/builders/machine.ts";
import { aStore, type TestStore } from "../../test/builders/store.ts";
import { systemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { HOUR_MS } from "../base/units.ts";
import { createStore } from "./create-store.ts";
import type { Store } from "./store.ts";

const FINISHED_COUNT = 10_000;
const LIVE_COUNT = 200;

/** What is asked often looks at no more rows than it needs; how long it takes is measured by `npm run bench`. */
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

  test("the live rows are read, and none of the finished ones", async () => {
    expect(await store.jobs({ unfinished: true })).toHaveLength(LIVE_COUNT);
    expect(await store.machines({ live: true })).toHaveLength(LIVE_COUNT);
  });

  test("what all of them have used is added up at once", async () => {
    const startedAt = performance.now();
    const until = systemClock.now() + HOUR_MS;
    const [row, ...others] = await store.usage({ by: "project", since: 0, until });
    const tookMs = performance.now() - startedAt;

    expect(others).toEqual([]);
    expect(row).toMatchObject({ jobs: FINISHED_COUNT + LIVE_COUNT, unfinished: LIVE_COUNT });
    // A small part of that where nothing else runs.
    expect(tookMs).toBeLessThan(5_000);
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
});

const DELIVERY_COUNT = 100_000;

describe(`store with ${DELIVERY_COUNT} deliveries`, () => {
  let made: TestStore;

  beforeAll(async () => {
    made = await aStore({ clock: systemClock, onDisk: true });
    addDeliveries(join(made.directory, "firerunner.db"));
  });
  afterAll(() => made[Symbol.asyncDispose]());

  /** Half of them older than anything is kept. */
  function addDeliveries(database: string): void {
    const db = new DatabaseSync(database);
    const [now, old] = [Date.now(), Date.now() - 90 * HOUR_MS];
    db.exec(`insert into deliveries (key, seq, event, project_id, job_id, status, received_at)
      with recursive n(i) as (select 1 union all select i + 1 from n where i < ${DELIVERY_COUNT})
      select lower(hex(randomblob(16))), i, 'Job Hook', i % 100, i, 'pending',
        iif(i <= ${DELIVERY_COUNT / 2}, ${old}, ${now}) from n`);
    db.exec(`update counters set value = ${DELIVERY_COUNT} where name = 'delivery'`);
    db.close();
  }

  test("nothing looks through all rows", () => {
    const db = new DatabaseSync(join(made.directory, "firerunner.db"), { readOnly: true });
    const plan = (sql: string) =>
      db
        .prepare(`explain query plan ${sql}`)
        .all()
        .map((row) => String(row["detail"]))
        .join("; ");
    const live = "state in ('creating', 'active', 'retiring')";

    const plans = [
      plan("select * from deliveries order by received_at desc, seq desc limit 100"),
      plan("select * from deliveries where received_at >= 5 order by received_at desc, seq desc limit 100"),
      plan("select * from deliveries where job_id = 5 order by seq desc limit 1"),
      plan(
        "delete from deliveries where key in (select key from deliveries where received_at < 5 order by received_at limit 500)",
      ),
      plan("delete from events where seq in (select seq from events where at < 5 order by at limit 500)"),
      plan(`select * from runners where ${live}`),
      plan("select * from runners where state = 'gone' order by gone_at desc limit 100"),
      plan(
        "delete from runners where key in (select key from runners where state = 'gone' and gone_at < 5 limit 500)",
      ),
    ];
    db.close();

    expect(plans.filter((text) => /SCAN (?!.* USING (COVERING )?INDEX)|TEMP B-TREE/.test(text))).toEqual([]);
    expect(plans.filter((text) => /INDEX (deliveries|events|runners)_/.test(text))).toHaveLength(
      plans.length,
    );
  });

  test("old ones are pruned in small steps, between which others have their turn", async () => {
    const pruning = made.store.prune(0);
    let isDone = false;
    let turns = 0;
    const done = pruning.finally(() => {
      isDone = true;
    });
    for (; !isDone; turns++) await made.store.claim(aClaim({ jobId: turns + 1 }));

    expect(await done).toBe(DELIVERY_COUNT / 2);
    // In one step there would be one or two.
    expect(turns).toBeGreaterThan(20);
  });
});
