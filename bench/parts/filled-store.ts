import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { systemClock } from "../../src/base/clock.ts";
import { newMachineId } from "../../src/base/ids.ts";
import { silentLog } from "../../src/base/log.ts";
import { createStore } from "../../src/store/create-store.ts";
import { aClaim } from "../../test/builders/job.ts";
import { aNewMachine } from "../../test/builders/machine.ts";

export interface Counts {
  readonly finished: number;
  /** Running on machines of their own. */
  readonly live: number;
}

/** A state directory as an installation leaves it, by way of the store itself. Answers the ids of the live machines. */
export async function fillStore(
  stateDirectory: string,
  pool: string,
  { finished, live }: Counts,
): Promise<string[]> {
  await mkdir(stateDirectory, { recursive: true, mode: 0o700 });
  const database = join(stateDirectory, "firerunner.db");
  const store = await createStore({
    database,
    keyFile: join(stateDirectory, "key"),
    clock: systemClock,
    log: silentLog,
  });
  const machineIds: string[] = [];
  for (let jobId = 1; jobId <= live; jobId++) {
    const id = newMachineId();
    machineIds.push(id);
    await store.claim(aClaim({ jobId, pool }));
    await store.startJob(jobId, aNewMachine({ id, pool }));
    await store.markBooting(id);
    await store.markReady(id);
    await store.handOver(jobId, id);
  }
  await store.close();
  if (finished > 0 && live > 0) copyAsFinished(database, finished, live);
  return machineIds;
}

/** Copies of the live rows and their events under other ids, as the end of a job leaves them: quicker than as many moves. */
function copyAsFinished(database: string, finished: number, live: number): void {
  const db = new DatabaseSync(database);
  const columnsOf = (table: string) =>
    db
      .prepare(`select name from pragma_table_info('${table}')`)
      .all()
      .map((row) => String(row["name"]));
  const copy = (table: string, changed: Readonly<Record<string, string>>) =>
    db.exec(`insert into ${table} select ${columnsOf(table)
      .map((column) => changed[column] ?? column)
      .join(", ")} from ${table}, (with recursive n(i) as (select 1 union all select i + 1 from n
        where i < ${Math.ceil(finished / live)}) select i from n)`);
  const jobId = `job_id + i * ${live}`;
  const machineId = "substr(machine_id, 1, 11) || '-' || i";
  const seqs = Number(db.prepare("select max(seq) as last from events").get()?.["last"]);
  copy("jobs", {
    id: `id + i * ${live}`,
    state: "'finished'",
    result: "'success'",
    finished_at: "claimed_at",
    machine_id: machineId,
  });
  copy("machines", { id: "id || '-' || i", state: "'gone'", gone_at: "created_at", job_id: jobId });
  copy("events", { seq: `seq + i * ${seqs}`, job_id: jobId, machine_id: machineId });
  db.exec("update counters set value = (select max(seq) from events) where name = 'event'");
  db.close();
}
