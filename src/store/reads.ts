/** Reading the store without its key: as the database has it, also for a FireRunner that does not run. */
import { Kysely } from "kysely";
import { readDeliveries, readDeliveryOfJob, readProjects } from "./deliveries.ts";
import { toStoreError } from "./errors.ts";
import { countWaitingTraces, readDueTraces, readTrace } from "./job-traces.ts";
import { readJob, readJobs } from "./jobs.ts";
import { readDrainedHosts, readMachine, readMachines } from "./machines.ts";
import { readRunners } from "./runners.ts";
import { readOnlySqliteDialect, requireCurrentSchema } from "./sqlite.ts";
import type { Store } from "./store.ts";
import { ColumnNames, type Tables } from "./tables.ts";
import { readUsage } from "./usage.ts";
import { readEvents, readLastEvent } from "./writer.ts";

/** What can be seen of the store without its key. */
type StoreReads = Pick<
  Store,
  | "job"
  | "jobs"
  | "trace"
  | "dueTraces"
  | "waitingTraces"
  | "usage"
  | "machine"
  | "machines"
  | "events"
  | "lastEvent"
  | "deliveries"
  | "deliveryOfJob"
  | "projects"
  | "runners"
  | "drainedHosts"
>;

export function createReads(db: Kysely<Tables>): StoreReads {
  return {
    job: (id) => named(`reading job ${id}`, () => readJob(db, id)),
    jobs: (filter = {}) => named("listing jobs", () => readJobs(db, filter)),
    trace: (jobId) => named(`reading the trace of job ${jobId}`, () => readTrace(db, jobId)),
    dueTraces: (limit) => named("listing traces to be made", () => readDueTraces(db, limit)),
    waitingTraces: () => named("counting traces to be made", () => countWaitingTraces(db)),
    usage: (filter) => named("adding up what jobs have used", () => readUsage(db, filter)),
    machine: (id) => named(`reading machine ${id}`, () => readMachine(db, id)),
    machines: (filter = {}) => named("listing machines", () => readMachines(db, filter)),
    events: (filter) => named("reading events", () => readEvents(db, filter)),
    lastEvent: () => named("reading the number of the last event", () => readLastEvent(db)),
    deliveries: (filter = {}) => named("listing deliveries", () => readDeliveries(db, filter)),
    deliveryOfJob: (jobId) =>
      named(`reading the delivery about job ${jobId}`, () => readDeliveryOfJob(db, jobId)),
    projects: () => named("listing projects", () => readProjects(db)),
    drainedHosts: () => named("listing drained hosts", () => readDrainedHosts(db)),
    runners: (filter = {}) => named("listing runners", () => readRunners(db, filter)),
  };
}

/** Says of an error what was being read. */
export async function named<Result>(what: string, read: () => Promise<Result>): Promise<Result> {
  try {
    return await read();
  } catch (error) {
    throw toStoreError(what, error);
  }
}

/** The store of a FireRunner that may not be running, for looking only. Needs no key and takes no lock. */
export async function openStoreReadOnly(path: string): Promise<StoreReads & Pick<Store, "close">> {
  try {
    const db = new Kysely<Tables>({ dialect: readOnlySqliteDialect(path), plugins: [new ColumnNames()] });
    await requireCurrentSchema(db);
    return { ...createReads(db), close: () => db.destroy() };
  } catch (error) {
    throw toStoreError("opening the store", error);
  }
}
