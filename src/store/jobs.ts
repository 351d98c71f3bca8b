import type { Kysely, Transaction } from "kysely";
import type { JobEnding, JobFailure } from "../domain/job-end.ts";
import { type JobResult, type JobState, jobSourcesOf, unfinishedJobStates } from "../domain/states.ts";
import { insertMachine, machineRow, moveMachine, stopMachine } from "./machines.ts";
import type { Claim, Job, NewMachine, Store } from "./store.ts";
import { type JobRow, type Tables, withoutNul, withSize } from "./tables.ts";
import type { Vault } from "./vault.ts";
import type { Change, Write } from "./writer.ts";

const DEFAULT_LIMIT = 100;

type JobMoves = Pick<
  Store,
  | "claim"
  | "startJob"
  | "retryJob"
  | "handOver"
  | "failJob"
  | "postponeReport"
  | "finishJob"
  | "addTraceHead"
  | "setTraceSize"
>;

export function createJobMoves(write: Write, vault: Vault): JobMoves {
  return {
    claim: (claim) =>
      write(`storing job ${claim.jobId}`, (change) => insertJob(change, vault, claim), "power-cut"),
    startJob: (id, machine) => write(`starting job ${id}`, (change) => startJob(change, id, machine)),
    retryJob: (id, ...why) => write(`retrying job ${id}`, (change) => retryJob(change, id, ...why)),
    handOver: (id, machineId) =>
      write(`handing over job ${id}`, (change) => handOver(change, id, machineId), "power-cut"),
    failJob: (id, failure) => write(`failing job ${id}`, (change) => failJob(change, id, failure)),
    postponeReport: (id, reportAt, error) =>
      write(`postponing the report of job ${id}`, (change) => postponeReport(change, id, reportAt, error)),
    finishJob: (id, ...end) => write(`finishing job ${id}`, (change) => finishJob(change, id, ...end)),
    addTraceHead: (id, text) => write(`adding to the trace of job ${id}`, ({ tx }) => addHead(tx, id, text)),
    setTraceSize: (id, bytes) => write(`noting the trace of job ${id}`, ({ tx }) => setSize(tx, id, bytes)),
  };
}

export async function readJob(db: Kysely<Tables>, id: number): Promise<Job | undefined> {
  const row = await db.selectFrom("jobs").selectAll().where("id", "=", id).executeTakeFirst();
  return row && withSize(row);
}

export async function readJobs(
  db: Kysely<Tables>,
  filter: { unfinished?: boolean; limit?: number },
): Promise<Job[]> {
  const newestFirst = db.selectFrom("jobs").selectAll().orderBy("claimedAt", "desc").orderBy("id", "desc");
  const rows = filter.unfinished
    ? await newestFirst.where("state", "in", unfinishedJobStates).execute()
    : await newestFirst.limit(filter.limit ?? DEFAULT_LIMIT).execute();
  return rows.map(withSize);
}

export async function readPayload(
  db: Kysely<Tables>,
  vault: Vault,
  jobId: number,
): Promise<string | undefined> {
  const row = await db.selectFrom("payloads").select("sealed").where("jobId", "=", jobId).executeTakeFirst();
  return row && vault.payloads.open(jobId, row.sealed);
}

/** The compare-and-set: the row as it is now, or undefined when the job was in no state that leads to `to`. */
async function moveJob(
  { tx }: Change,
  id: number,
  to: JobState,
  columns: Partial<JobRow>,
): Promise<JobRow | undefined> {
  return await tx
    .updateTable("jobs")
    .set({ ...columns, state: to })
    .where("id", "=", id)
    .where("state", "in", jobSourcesOf(to))
    .returningAll()
    .executeTakeFirst();
}

async function insertJob(change: Change, vault: Vault, claim: Claim): Promise<boolean> {
  const { jobId, payload, pollMs, size, pool, runner, name, stage, project, timeoutMs } = claim;
  const { numInsertedOrUpdatedRows } = await change.tx
    .insertInto("jobs")
    .values({
      id: jobId,
      state: "claimed",
      ...{ pool, runner, name, stage, project, timeoutMs, ...size },
      attempt: 0,
      traceHead: "",
      traceSize: 0,
      claimedAt: change.now,
    })
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  if (numInsertedOrUpdatedRows !== 1n) return false;
  await change.tx
    .insertInto("payloads")
    .values({ jobId, sealed: vault.payloads.seal(jobId, payload) })
    .execute();
  change.record("job:claimed", { jobId, machineId: null }, { pool, runner, name, project, pollMs });
  return claim.failure === undefined || (await failJob(change, jobId, claim.failure));
}

async function startJob(change: Change, id: number, machine: NewMachine): Promise<boolean> {
  const current = await change.tx
    .selectFrom("jobs")
    .select("attempt")
    .where("id", "=", id)
    .executeTakeFirst();
  const attempt = (current?.attempt ?? 0) + 1;
  const job = await moveJob(change, id, "starting", {
    attempt,
    machineId: machine.id,
    startingAt: change.now,
  });
  if (!job || !(await insertMachine(change, id, machine))) return false;
  const { host } = machine;
  change.record(
    "job:starting",
    { jobId: id, machineId: machine.id },
    { machineId: machine.id, attempt, host },
  );
  return true;
}

/** The machine that failed the job is stopped in the same step, so that it can never ask for the payload later. */
async function retryJob(
  change: Change,
  id: number,
  reason: string,
  counts: "counts" | "does not count" = "counts",
): Promise<boolean> {
  const before = await readJob(change.tx, id);
  const attempt = (before?.attempt ?? 0) - (counts === "counts" ? 0 : 1);
  const job = await moveJob(change, id, "claimed", { machineId: null, attempt: Math.max(0, attempt) });
  const machineId = before?.machineId;
  if (!job || !machineId) return false;
  await stopMachine(change, machineId, reason);
  change.record("job:retried", { jobId: id, machineId }, { machineId, reason, attempt: job.attempt });
  return true;
}

async function handOver(change: Change, id: number, machineId: string): Promise<boolean> {
  const job = await moveJob(change, id, "running", { runningAt: change.now });
  if (job?.machineId !== machineId) return false;
  const machine = await machineRow(change.tx, machineId);
  if (machine?.state === "booting")
    await moveMachine(change, machineId, "ready", { readyAt: change.now }, {});
  if (!(await moveMachine(change, machineId, "busy", { busyAt: change.now }, {}))) return false;
  change.record("job:running", { jobId: id, machineId }, { machineId });
  return true;
}

async function failJob(change: Change, id: number, { reason, cause }: JobFailure): Promise<boolean> {
  const times = { failingAt: change.now, reportAt: change.now };
  const job = await moveJob(change, id, "failing", { ...times, reason: withoutNul(reason), cause });
  if (!job) return false;
  change.record("job:failing", { jobId: id, machineId: job.machineId }, { reason, cause });
  return true;
}

async function postponeReport(change: Change, id: number, reportAt: number, error: string): Promise<void> {
  const job = await change.tx
    .updateTable("jobs")
    .set({ reportAt })
    .where("id", "=", id)
    .where("state", "=", "failing")
    .returning("machineId")
    .executeTakeFirst();
  if (!job) return;
  change.record("job:report-failed", { jobId: id, machineId: job.machineId }, { error, retryAt: reportAt });
}

async function finishJob(
  change: Change,
  id: number,
  result: JobResult,
  { reason, cause }: JobEnding = {},
): Promise<boolean> {
  const job = await moveJob(change, id, "finished", {
    finishedAt: change.now,
    reportAt: null,
    result,
    ...(reason === undefined ? {} : { reason: withoutNul(reason) }),
    ...causeColumn(result, cause),
  });
  if (!job) return false;
  await change.tx.deleteFrom("payloads").where("jobId", "=", id).execute();
  const why = {
    ...(job.reason === null ? {} : { reason: job.reason }),
    ...(job.cause === null ? {} : { cause: job.cause }),
  };
  change.record("job:finished", { jobId: id, machineId: job.machineId }, { result, ...why });
  return true;
}

/** Only a job that failed keeps what that is blamed on. */
function causeColumn(result: JobResult, cause: JobEnding["cause"]): Partial<JobRow> {
  if (result !== "failed") return { cause: null };
  return cause === undefined ? {} : { cause };
}

async function addHead(tx: Transaction<Tables>, id: number, text: string): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable("jobs")
    .set((eb) => ({ traceHead: eb(eb.ref("traceHead"), "||", withoutNul(text)) }))
    .where("id", "=", id)
    .where("state", "in", jobSourcesOf("running").concat("claimed"))
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

async function setSize(tx: Transaction<Tables>, id: number, traceSize: number): Promise<void> {
  await tx.updateTable("jobs").set({ traceSize }).where("id", "=", id).execute();
}
