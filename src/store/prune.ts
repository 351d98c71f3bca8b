import type { Transaction } from "kysely";
import { unfinishedJobStates } from "../lifecycle/states.ts";
import type { Tables } from "./tables.ts";
import type { Write } from "./writer.ts";

/** Small enough that a claim never waits long behind one. */
const BATCH_ROWS = 500;

type DeleteBatch = (tx: Transaction<Tables>, before: number) => Promise<bigint>;

/** Machines first, because they refer to jobs; events last, because they stay as long as what they are about. */
const steps: readonly DeleteBatch[] = [deleteMachines, deleteJobs, deleteEvents];

/** Deletes what ended before `before` in small transactions, between which others have their turn. */
export async function prune(write: Write, before: number): Promise<number> {
  let deleted = 0;
  for (const step of steps) {
    for (let batch = BATCH_ROWS; batch === BATCH_ROWS; deleted += batch) {
      batch = Number(await write("deleting old rows", ({ tx }) => step(tx, before)));
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

async function deleteJobs(tx: Transaction<Tables>, before: number): Promise<bigint> {
  const old = tx
    .selectFrom("jobs")
    .select("jobs.id")
    .where("jobs.state", "=", "finished")
    .where("finishedAt", "<", before)
    .where(({ not, exists, selectFrom }) =>
      not(exists(selectFrom("machines").select("machines.id").whereRef("machines.jobId", "=", "jobs.id"))),
    )
    .limit(BATCH_ROWS);
  return (await tx.deleteFrom("jobs").where("id", "in", old).executeTakeFirst()).numDeletedRows;
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
    .orderBy("seq")
    .limit(BATCH_ROWS);
  return (await tx.deleteFrom("events").where("seq", "in", old).executeTakeFirst()).numDeletedRows;
}
