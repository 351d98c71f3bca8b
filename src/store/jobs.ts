import { type Insertable, type Kysely, type RawBuilder, type SqlBool, sql } from "kysely";
import type { JobEnding, JobFailure } from "../domain/job-end.ts";
import { type JobResult, type JobState, jobSourcesOf, unfinishedJobStates } from "../domain/states.ts";
import type { Peaks } from "../domain/usage.ts";
import { insertTrace } from "./job-traces.ts";
import { insertMachine, machineRow, moveMachine, stopMachine } from "./machines.ts";
import { prepared } from "./prepared.ts";
import type { Claim, Job, JobFilter, NewMachine, Store } from "./store.ts";
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
  | "notePeaks"
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
    addTraceHead: (id, text) =>
      write(`adding to the trace of job ${id}`, (change) => addHead(change, id, text)),
    setTraceSize: (id, bytes) =>
      write(`noting the trace of job ${id}`, (change) => setSize(change, id, bytes)),
    notePeaks: (id, ...peaks) =>
      write(`noting the use of job ${id}`, (change) => notePeaks(change, id, ...peaks)),
  };
}

export async function readJob(db: Kysely<Tables>, id: number): Promise<Job | undefined> {
  const { rows } = await jobRow(db, { id });
  return rows[0] && withSize(rows[0]);
}

const jobRow = prepared((db, { id }: { id: number }) =>
  db.selectFrom("jobs").selectAll().where("id", "=", id),
);

export async function readJobs(db: Kysely<Tables>, filter: JobFilter): Promise<Job[]> {
  const { unfinished, project, pool, states, results, since } = filter;
  let query = db.selectFrom("jobs").selectAll().orderBy("claimedAt", "desc").orderBy("id", "desc");
  if (unfinished) query = query.where("state", "in", unfinishedJobStates);
  if (project !== undefined) query = query.where(isInProject(project));
  if (pool !== undefined) query = query.where("pool", "=", pool);
  if (states !== undefined) query = query.where("state", "in", states);
  if (results !== undefined) query = query.where("result", "in", results);
  if (since !== undefined) query = query.where("claimedAt", ">=", since);
  const limit = filter.limit ?? (unfinished ? undefined : DEFAULT_LIMIT);
  const rows = await (limit === undefined ? query : query.limit(limit)).execute();
  return rows.map(withSize);
}

/** The project itself, or what lies below a group of that path. GitLab's paths differ in more than the case of their letters. */
export function isInProject(path: string): RawBuilder<SqlBool> {
  const below = `${path}/`;
  return sql`(lower(project) = lower(${path}) or lower(substr(project, 1, ${[...below].length})) = lower(${below}))`;
}

export async function readPayload(
  db: Kysely<Tables>,
  vault: Vault,
  jobId: number,
): Promise<string | undefined> {
  const { rows } = await sealedPayload(db, { jobId });
  return rows[0] && vault.payloads.open(jobId, rows[0].sealed);
}

const sealedPayload = prepared((db, { jobId }: { jobId: number }) =>
  db.selectFrom("payloads").select("sealed").where("jobId", "=", jobId),
);

/** The compare-and-set: the row as it is now, or undefined when the job was in no state that leads to `to`. */
async function moveJob(
  change: Change,
  id: number,
  to: JobState,
  columns: Partial<Omit<JobRow, "id" | "state">>,
): Promise<JobRow | undefined> {
  const { rows } = await moves[to](change.tx, { ...columns, id });
  return written(change, rows[0]);
}

const moves = {
  claimed: move("claimed"),
  starting: move("starting"),
  running: move("running"),
  failing: move("failing"),
  finished: move("finished"),
};

function move(state: JobState) {
  return prepared((db, { id, ...columns }: Pick<JobRow, "id"> & Partial<Omit<JobRow, "id" | "state">>) =>
    db
      .updateTable("jobs")
      .set({ ...columns, state })
      .where("id", "=", id)
      .where("state", "in", jobSourcesOf(state))
      .returningAll(),
  );
}

/** Tells of a row that was written, if one was. */
function written({ wrote }: Change, row: JobRow | undefined): JobRow | undefined {
  if (row) wrote({ job: withSize(row) });
  return row;
}

async function insertJob(change: Change, vault: Vault, claim: Claim): Promise<boolean> {
  const {
    jobId,
    payload,
    pollMs,
    queuedMs = null,
    size,
    pool,
    runner,
    name,
    stage,
    project,
    timeoutMs,
  } = claim;
  const { rows } = await addJob(change.tx, {
    id: jobId,
    state: "claimed",
    ...{ pool, runner, name, stage, project, timeoutMs, ...size },
    attempt: 0,
    traceHead: "",
    traceSize: 0,
    queuedMs,
    claimedAt: change.now,
  });
  if (!written(change, rows[0])) return false;
  await addPayload(change.tx, { jobId, sealed: vault.payloads.seal(jobId, payload) });
  if (claim.trace) await insertTrace(change, { jobId, ...claim.trace });
  const queued = claim.queuedMs === undefined ? {} : { queuedMs: claim.queuedMs };
  change.record(
    "job:claimed",
    { jobId, machineId: null },
    { pool, runner, name, project, pollMs, ...queued },
  );
  return claim.failure === undefined || (await failJob(change, jobId, claim.failure));
}

const addJob = prepared((db, job: Insertable<JobRow>) =>
  db
    .insertInto("jobs")
    .values(job)
    .onConflict((conflict) => conflict.doNothing())
    .returningAll(),
);

const addPayload = prepared((db, payload: Tables["payloads"]) => db.insertInto("payloads").values(payload));

async function startJob(change: Change, id: number, machine: NewMachine): Promise<boolean> {
  const current = await readJob(change.tx, id);
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
  const row = await change.tx
    .updateTable("jobs")
    .set({ reportAt })
    .where("id", "=", id)
    .where("state", "=", "failing")
    .returningAll()
    .executeTakeFirst();
  const job = written(change, row);
  if (!job) return;
  change.record("job:report-failed", { jobId: id, machineId: job.machineId }, { error, retryAt: reportAt });
}

async function finishJob(
  change: Change,
  id: number,
  result: JobResult,
  { reason, cause, toldAt }: JobEnding = {},
): Promise<boolean> {
  const job = await moveJob(change, id, "finished", {
    finishedAt: change.now,
    reportAt: null,
    result,
    ...(reason === undefined ? {} : { reason: withoutNul(reason) }),
    ...causeColumn(result, cause),
  });
  if (!job) return false;
  await erasePayload(change.tx, { jobId: id });
  const why = {
    ...(job.reason === null ? {} : { reason: job.reason }),
    ...(job.cause === null ? {} : { cause: job.cause }),
    ...(toldAt === undefined ? {} : { toldAt }),
  };
  change.record("job:finished", { jobId: id, machineId: job.machineId }, { result, ...why });
  return true;
}

const erasePayload = prepared((db, { jobId }: { jobId: number }) =>
  db.deleteFrom("payloads").where("jobId", "=", jobId),
);

/** Only a job that failed keeps what that is blamed on. */
function causeColumn(result: JobResult, cause: JobEnding["cause"]): Partial<JobRow> {
  if (result !== "failed") return { cause: null };
  return cause === undefined ? {} : { cause };
}

async function addHead(change: Change, id: number, text: string): Promise<boolean> {
  const { rows } = await appendHead(change.tx, { id, text: withoutNul(text) });
  return written(change, rows[0]) !== undefined;
}

const appendHead = prepared((db, { id, text }: { id: number; text: string }) =>
  db
    .updateTable("jobs")
    .set((eb) => ({ traceHead: eb(eb.ref("traceHead"), "||", text) }))
    .where("id", "=", id)
    .where("state", "in", jobSourcesOf("running").concat("claimed"))
    .returningAll(),
);

async function setSize(change: Change, id: number, traceSize: number): Promise<void> {
  const { rows } = await setTraceSize(change.tx, { id, traceSize });
  written(change, rows[0]);
}

const setTraceSize = prepared((db, { id, traceSize }: Pick<JobRow, "id" | "traceSize">) =>
  db.updateTable("jobs").set({ traceSize }).where("id", "=", id).returningAll(),
);

/** They only ever grow: a guest may tell less when its program was started again. */
async function notePeaks(
  change: Change,
  id: number,
  machineId: string,
  { memoryMib, diskMib }: Peaks,
): Promise<boolean> {
  const before = await readJob(change.tx, id);
  if (before?.machineId !== machineId) return false;
  const peakMemoryMib = largest(before.peakMemoryMib, memoryMib);
  const peakDiskMib = largest(before.peakDiskMib, diskMib);
  if (peakMemoryMib === before.peakMemoryMib && peakDiskMib === before.peakDiskMib) return false;
  const { rows } = await setPeaks(change.tx, { id, peakMemoryMib, peakDiskMib });
  return written(change, rows[0]) !== undefined;
}

function largest(before: number | null, told: number | undefined): number | null {
  return told === undefined ? before : Math.max(before ?? 0, told);
}

const setPeaks = prepared((db, { id, ...peaks }: Pick<JobRow, "id" | "peakMemoryMib" | "peakDiskMib">) =>
  db.updateTable("jobs").set(peaks).where("id", "=", id).returningAll(),
);
