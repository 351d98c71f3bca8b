/** The tables as they are, and what several of them need: the installation's id, inserts of many rows. */
import { CamelCasePlugin, type Kysely, type UnknownRow } from "kysely";
import type { EventKind } from "../domain/events.ts";
import type { FailureCause } from "../domain/job-end.ts";
import type { JobResult, JobState, MachineState } from "../domain/states.ts";
import type { Delivery, KnownProject, ManagedRunner } from "./jobs-by-tag.ts";
import type { JobTrace } from "./store.ts";

/** The tables as queries see them; the columns are these names in snake case. Times are epoch ms. */
export interface Tables {
  jobs: JobRow;
  payloads: PayloadRow;
  jobTraces: JobTraceRow;
  machines: MachineRow;
  machineLinks: MachineLinkRow;
  events: EventRow;
  deliveries: DeliveryRow;
  projects: KnownProject;
  runners: RunnerRow;
  runnerTokens: RunnerTokenRow;
  drainedHosts: DrainedHostRow;
  counters: CounterRow;
  meta: MetaRow;
}

interface SizeColumns {
  cpus: number;
  memoryMib: number;
  diskMib: number;
}

export interface JobRow extends SizeColumns {
  id: number;
  pool: string;
  runner: string;
  state: JobState;
  name: string;
  stage: string;
  project: string;
  timeoutMs: number;
  attempt: number;
  machineId: string | null;
  traceHead: string;
  traceSize: number;
  claimedAt: number;
  startingAt: number | null;
  runningAt: number | null;
  failingAt: number | null;
  finishedAt: number | null;
  reportAt: number | null;
  result: JobResult | null;
  reason: string | null;
  cause: FailureCause | null;
  queuedMs: number | null;
  peakMemoryMib: number | null;
  peakDiskMib: number | null;
}

export interface MachineRow extends SizeColumns {
  id: string;
  jobId: number | null;
  pool: string;
  driver: string;
  host: string;
  image: string;
  state: MachineState;
  reason: string | null;
  cause: FailureCause | null;
  createdAt: number;
  bootingAt: number | null;
  heardAt: number | null;
  readyAt: number | null;
  busyAt: number | null;
  stoppingAt: number | null;
  goneAt: number | null;
}

/** Apart from `jobs`, so that no list ever reads a secret and erasing is deleting a row. */
interface PayloadRow {
  jobId: number;
  sealed: Uint8Array;
}

/** There for jobs that are traced. */
interface JobTraceRow extends JobTrace {
  /** When its trace was made and taken, or given up; null until then. */
  readonly settledAt: number | null;
}

/** From `creating` to `stopping`, for machines on other hosts. */
interface MachineLinkRow {
  machineId: string;
  /** SHA-256 in hex. */
  secretHash: string;
}

export interface EventRow {
  seq: number;
  at: number;
  kind: EventKind;
  jobId: number | null;
  machineId: string | null;
  /** JSON */
  detail: string;
}

/** `seq` is the order of receipt. */
interface DeliveryRow extends Delivery {
  readonly seq: number;
}

export interface RunnerRow extends Omit<ManagedRunner, "tags" | "size">, SizeColumns {
  readonly poolDigest: string;
  /** JSON */
  readonly tags: string;
  readonly goneAt: number | null;
}

/** Apart from `runners` for the same reasons as payloads. */
interface RunnerTokenRow {
  key: string;
  sealed: Uint8Array;
}

interface DrainedHostRow {
  key: string;
  drainedAt: number;
}

interface CounterRow {
  name: "event" | "delivery";
  value: number;
}

interface MetaRow {
  name: string;
  value: string;
}

/** As the other modules see a row. */
type WithSize<Row extends SizeColumns> = Omit<Row, keyof SizeColumns> & {
  readonly size: Readonly<SizeColumns>;
};

/** The names of columns, for queries and their rows. No value of ours is an object with names of its own, so that none is looked into. */
export class ColumnNames extends CamelCasePlugin {
  protected override mapRow(row: UnknownRow): UnknownRow {
    const named: UnknownRow = {};
    for (const column of Object.keys(row)) named[this.camelCase(column)] = row[column];
    return named;
  }
}

/** Gathers the columns of a size into one value. Whole lists come through here several times a second: rest and spread take three times as long. */
export function withSize<Row extends SizeColumns>(row: Row): WithSize<Row> {
  const { cpus, memoryMib, diskMib } = row;
  const seen: Record<string, unknown> = { size: { cpus, memoryMib, diskMib } };
  for (const column of Object.keys(row)) if (!isOfSize(column)) seen[column] = row[column as keyof Row];
  return seen as WithSize<Row>;
}

function isOfSize(column: string): boolean {
  return column === "cpus" || column === "memoryMib" || column === "diskMib";
}

/** Text from outside may hold a NUL, which PostgreSQL does not take and people cannot see. */
export function withoutNul(text: string): string {
  return text.replaceAll("\0", "\ufffd");
}

/** As `withoutNul`, and no longer than `length`: whoever sends it does not decide how much is kept. */
export function cut(text: string, length: number): string {
  // Half a character at the end is not what the database would give back.
  return withoutNul(text.slice(0, length)).toWellFormed();
}

/** The installation's stable id (32 hex digits), made from `random` the first time. */
export async function installationIdOf(
  db: Kysely<Tables>,
  random: (size: number) => Uint8Array,
): Promise<string> {
  await db
    .insertInto("meta")
    .values({ name: "installation_id", value: Buffer.from(random(16)).toString("hex") })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  const row = await db
    .selectFrom("meta")
    .select("value")
    .where("name", "=", "installation_id")
    .executeTakeFirstOrThrow();
  return row.value;
}

const CHUNK_ROWS: readonly number[] = [64, 8, 1];

/**
 * Cuts rows into pieces of few different lengths, so that inserts of many rows are few different statements: each has a bounded
 * number of parameters, and all of them together stay prepared.
 */
export function chunksOf<Row>(rows: readonly Row[]): Row[][] {
  const chunks: Row[][] = [];
  let start = 0;
  for (const size of CHUNK_ROWS) {
    for (; rows.length - start >= size; start += size) chunks.push(rows.slice(start, start + size));
  }
  return chunks;
}
