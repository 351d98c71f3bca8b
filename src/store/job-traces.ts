/** Which traces jobs belong to, and which of them are still to be made: a mark for each job that stays until somebody has taken its trace. */
import type { Kysely, SelectQueryBuilder } from "kysely";
import { occupyingMachineStates } from "../domain/states.ts";
import { prepared } from "./prepared.ts";
import type { JobTrace, TraceStore } from "./store.ts";
import type { Tables } from "./tables.ts";
import type { Change, Write } from "./writer.ts";

const columns = ["jobId", "traceId", "parentSpanId", "pipelineId", "projectId"] as const;

export async function insertTrace(change: Change, trace: JobTrace): Promise<void> {
  await addTrace(change.tx, trace);
}

const addTrace = prepared((db, trace: JobTrace) => db.insertInto("jobTraces").values(trace));

export async function readTrace(db: Kysely<Tables>, jobId: number): Promise<JobTrace | undefined> {
  return (await traceOf(db, { jobId })).rows[0];
}

const traceOf = prepared((db, { jobId }: { jobId: number }) =>
  db.selectFrom("jobTraces").select(columns).where("jobId", "=", jobId),
);

export async function readDueTraces(db: Kysely<Tables>, limit: number): Promise<JobTrace[]> {
  return await ofEndedJobs(db)
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom("machines")
            .select("machines.id")
            .whereRef("machines.jobId", "=", "jobTraces.jobId")
            .where("machines.state", "in", occupyingMachineStates),
        ),
      ),
    )
    .select(columns.map((column) => `jobTraces.${column}` as const))
    .orderBy("jobs.finishedAt")
    .orderBy("jobTraces.jobId")
    .limit(limit)
    .execute();
}

export async function countWaitingTraces(db: Kysely<Tables>): Promise<number> {
  const row = await ofEndedJobs(db)
    .select(({ fn }) => fn.countAll().as("count"))
    .executeTakeFirst();
  return Number(row?.count ?? 0);
}

/** Marks of jobs that GitLab has the end of. */
function ofEndedJobs(
  db: Kysely<Tables>,
): SelectQueryBuilder<Tables, "jobTraces" | "jobs", Record<never, never>> {
  return db
    .selectFrom("jobTraces")
    .innerJoin("jobs", "jobs.id", "jobTraces.jobId")
    .where("settledAt", "is", null)
    .where("jobs.state", "=", "finished");
}

export function createTraceChanges(write: Write): Pick<TraceStore, "settleTraces" | "giveUpTraces"> {
  return {
    settleTraces: (jobIds) =>
      write("noting that traces were taken", async ({ tx, now }) => {
        if (jobIds.length === 0) return;
        await tx
          .updateTable("jobTraces")
          .set({ settledAt: now })
          .where("jobId", "in", jobIds)
          .where("settledAt", "is", null)
          .execute();
      }),
    giveUpTraces: (endedBefore) =>
      write("giving up old traces", async ({ tx, now }) => {
        const ended = ofEndedJobs(tx).select("jobTraces.jobId").where("jobs.finishedAt", "<", endedBefore);
        const { numUpdatedRows } = await tx
          .updateTable("jobTraces")
          .set({ settledAt: now })
          .where("jobId", "in", ended)
          .executeTakeFirst();
        return Number(numUpdatedRows);
      }),
  };
}
