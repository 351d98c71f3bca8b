import type { Kysely } from "kysely";
import type { EventDetails } from "../domain/events.ts";
import type { FailureCause } from "../domain/job-end.ts";
import { type MachineState, machineSourcesOf, occupyingMachineStates } from "../domain/states.ts";
import { eraseLink } from "./machine-links.ts";
import type { Machine, NewMachine, Store } from "./store.ts";
import { type MachineRow, type Tables, withoutNul, withSize } from "./tables.ts";
import type { Change, Write } from "./writer.ts";

const DEFAULT_LIMIT = 100;

type MachineMoves = Pick<Store, "markBooting" | "markHeard" | "markReady" | "stopMachine" | "markGone">;

export function createMachineMoves(write: Write): MachineMoves {
  return {
    markBooting: (id) =>
      write(`noting that ${id} boots`, (change) =>
        moveMachine(change, id, "booting", { bootingAt: change.now }, {}),
      ),
    markHeard: (id) => write(`noting that ${id} was heard`, (change) => markHeard(change, id)),
    markReady: (id) =>
      write(`noting that ${id} is ready`, (change) =>
        moveMachine(change, id, "ready", { readyAt: change.now }, {}),
      ),
    stopMachine: (id, ...why) => write(`stopping ${id}`, (change) => stopMachine(change, id, ...why)),
    markGone: (id) =>
      write(`noting that ${id} is gone`, (change) =>
        moveMachine(change, id, "gone", { goneAt: change.now }, {}),
      ),
  };
}

export async function machineRow(db: Kysely<Tables>, id: string): Promise<MachineRow | undefined> {
  return await db.selectFrom("machines").selectAll().where("id", "=", id).executeTakeFirst();
}

export async function readMachine(db: Kysely<Tables>, id: string): Promise<Machine | undefined> {
  const row = await machineRow(db, id);
  return row && withSize(row);
}

export async function readMachines(
  db: Kysely<Tables>,
  filter: { live?: boolean; limit?: number },
): Promise<Machine[]> {
  const newestFirst = db
    .selectFrom("machines")
    .selectAll()
    .orderBy("createdAt", "desc")
    .orderBy("id", "desc");
  const rows = filter.live
    ? await newestFirst.where("state", "in", occupyingMachineStates).execute()
    : await newestFirst.limit(filter.limit ?? DEFAULT_LIMIT).execute();
  return rows.map(withSize);
}

/** False when a machine of this id has ever been. */
export async function insertMachine(change: Change, jobId: number, machine: NewMachine): Promise<boolean> {
  const { id, pool, driver, host, image, size } = machine;
  const { numInsertedOrUpdatedRows } = await change.tx
    .insertInto("machines")
    .values({ id, jobId, pool, driver, host, image, ...size, state: "creating", createdAt: change.now })
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  if (numInsertedOrUpdatedRows !== 1n) return false;
  const { cpus, memoryMib, diskMib } = size;
  change.record("machine:creating", { jobId, machineId: id }, { host, driver, cpus, memoryMib, diskMib });
  return true;
}

/** The compare-and-set and its event. False when the machine was in no state that leads to `to`. */
export async function moveMachine<To extends Exclude<MachineState, "creating">>(
  { tx, record }: Change,
  id: string,
  to: To,
  columns: Partial<MachineRow>,
  detail: EventDetails[`machine:${To}`],
): Promise<boolean> {
  const row = await tx
    .updateTable("machines")
    .set({ ...columns, state: to })
    .where("id", "=", id)
    .where("state", "in", machineSourcesOf(to))
    .returning("jobId")
    .executeTakeFirst();
  if (!row) return false;
  record(`machine:${to}`, { jobId: row.jobId, machineId: id }, detail);
  return true;
}

export async function stopMachine(
  change: Change,
  id: string,
  reason: string,
  cause: FailureCause | null = null,
): Promise<boolean> {
  const columns = { stoppingAt: change.now, reason: withoutNul(reason), cause };
  if (!(await moveMachine(change, id, "stopping", columns, { reason }))) return false;
  await eraseLink(change, id);
  return true;
}

async function markHeard({ tx, now, record }: Change, id: string): Promise<boolean> {
  const row = await tx
    .updateTable("machines")
    .set({ heardAt: now })
    .where("id", "=", id)
    .where("heardAt", "is", null)
    .where("state", "!=", "gone")
    .returning("jobId")
    .executeTakeFirst();
  if (!row) return false;
  record("machine:heard", { jobId: row.jobId, machineId: id }, {});
  return true;
}
