import type { Transaction } from "kysely";
import { HOUR_MS } from "../base/units.ts";
import { unfinishedJobStates } from "../domain/states.ts";
import { deleteDeliveries } from "./deliveries.ts";
import type { Tables } from "./tables.ts";
import type { Write } from "./writer.ts";

/** Small enough that a claim never waits long behind one. */
const BATCH_ROWS = 500;

/** What GitLab has sent can be sent again, with the same key, as long as GitLab lists it: two days. */
const KEEP_DELIVERIES_MS = { least: 48 * HOUR_MS, most: 72 * HOUR_MS };

type DeleteBatch = (tx: Transaction<Tables>, before: number, now: number) => Promise<bigint>;

/** Machines and traces first, because they refer to jobs; events last, because they stay as long as what they are about. */
const steps: readonly DeleteBatch[] = [
  deleteMachines,
  deleteTraces,
  deleteJobs,
  deleteRunners,
  deleteEvents,
  deleteOldDeliveries,
];

/** Deletes what ended before `before` in small transactions, between which others have their turn. */
export async function prune(write: Write, before: number): Promise<number> {
  let deleted = 0;
  for (const step of steps) {
    for (let batch = BATCH_ROWS; batch === BATCH_ROWS; deleted += batch) {
      batch = Number(await write("deleting old rows", ({ tx, now }) => step(tx, before, now)));
    }
  }
  return deleted;
}

async function deleteMachines(tx: Transaction<Tables>, before: number): Promise<bigint> {
  const old = tx
    .selectFrom("machines")
    .select("machines.id")
    .where("machines.state", "=", "gone")
    .where("goneAt", "<", before)
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom("jobs")
            .select("jobs.id")
            .whereRef("jobs.id", "=", "machines.jobId")
            .where("jobs.state", "in", unfinishedJobStates),
        ),
      ),
    )
    .limit(BATCH_ROWS);
  return (await tx.deleteFrom("machines").where("id", "in", old).executeTakeFirst()).numDeletedRows;
}

async function deleteTraces(tx: Transaction<Tables>, before: number): Promise<bigint> {
  const old = oldJobs(tx, before)
    .where(({ exists, selectFrom }) =>
      exists(selectFrom("jobTraces").select("jobId").whereRef("jobTraces.jobId", "=", "jobs.id")),
    )
    .limit(BATCH_ROWS);
  return (await tx.deleteFrom("jobTraces").where("jobId", "in", old).executeTakeFirst()).numDeletedRows;
}

async function deleteJobs(tx: Transaction<Tables>, before: number): Promise<bigint> {
  const old = oldJobs(tx, before)
    .where(({ not, exists, selectFrom }) =>
      not(exists(selectFrom("jobTraces").select("jobId").whereRef("jobTraces.jobId", "=", "jobs.id"))),
    )
    .limit(BATCH_ROWS);
  return (await tx.deleteFrom("jobs").where("id", "in", old).executeTakeFirst()).numDeletedRows;
}

/** Those of which no machine is left. */
function oldJobs(tx: Transaction<Tables>, before: number) {
  return tx
    .selectFrom("jobs")
    .select("jobs.id")
    .where("jobs.state", "=", "finished")
    .where("finishedAt", "<", before)
    .where(({ not, exists, selectFrom }) =>
      not(exists(selectFrom("machines").select("machines.id").whereRef("machines.jobId", "=", "jobs.id"))),
    );
}

/** Their tokens were erased when they went. */
async function deleteRunners(tx: Transaction<Tables>, before: number): Promise<bigint> {
  const old = tx
    .selectFrom("runners")
    .select("key")
    .where("state", "=", "gone")
    .where("goneAt", "<", before)
    .limit(BATCH_ROWS);
  return (await tx.deleteFrom("runners").where("key", "in", old).executeTakeFirst()).numDeletedRows;
}

async function deleteEvents(tx: Transaction<Tables>, before: number): Promise<bigint> {
  const old = tx
    .selectFrom("events")
    .select("seq")
    .where("at", "<", before)
    .where(({ not, exists, selectFrom }) =>
      not(exists(selectFrom("jobs").select("jobs.id").whereRef("jobs.id", "=", "events.jobId"))),
    )
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(selectFrom("machines").select("machines.id").whereRef("machines.id", "=", "events.machineId")),
      ),
    )
    .orderBy("at")
    .limit(BATCH_ROWS);
  return (await tx.deleteFrom("events").where("seq", "in", old).executeTakeFirst()).numDeletedRows;
}

async function deleteOldDeliveries(tx: Transaction<Tables>, before: number, now: number): Promise<bigint> {
  const { least, most } = KEEP_DELIVERIES_MS;
  return await deleteDeliveries(tx, Math.min(Math.max(before, now - most), now - least), BATCH_ROWS);
}
