/** The rows of machines with the hashes of their secrets, and those of drained hosts. */
import type { Insertable, Kysely } from "kysely";
import { isLinkSecret, linkHashOf, newLinkSecret } from "../base/secret.ts";
import type { EventDetails } from "../domain/events.ts";
import type { FailureCause } from "../domain/job-end.ts";
import { type MachineState, machineSourcesOf, occupyingMachineStates } from "../domain/states.ts";
import { prepared } from "./prepared.ts";
import type { HostStore, Machine, MachineStore, NewMachine } from "./store.ts";
import { type MachineRow, type Tables, withoutNul, withSize } from "./tables.ts";
import type { Change, Write } from "./writer.ts";

const DEFAULT_LIMIT = 100;

type MachineMoves = Pick<
  MachineStore,
  "markBooting" | "markHeard" | "markReady" | "stopMachine" | "markGone"
>;

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
  return (await rowOf(db, { id })).rows[0];
}

const rowOf = prepared((db, { id }: { id: string }) =>
  db.selectFrom("machines").selectAll().where("id", "=", id),
);

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
  const { rows } = await addMachine(change.tx, {
    ...{ id, jobId, pool, driver, host, image, ...size },
    state: "creating",
    createdAt: change.now,
  });
  if (!written(change, rows[0])) return false;
  const { cpus, memoryMib, diskMib } = size;
  change.record("machine:creating", { jobId, machineId: id }, { host, driver, cpus, memoryMib, diskMib });
  return true;
}

const addMachine = prepared((db, machine: Insertable<MachineRow>) =>
  db
    .insertInto("machines")
    .values(machine)
    .onConflict((conflict) => conflict.doNothing())
    .returningAll(),
);

/** Tells of a row that was written, if one was. */
function written({ wrote }: Change, row: MachineRow | undefined): MachineRow | undefined {
  if (row) wrote({ machine: withSize(row) });
  return row;
}

/** The compare-and-set and its event. False when the machine was in no state that leads to `to`. */
export async function moveMachine<To extends Exclude<MachineState, "creating">>(
  change: Change,
  id: string,
  to: To,
  columns: Columns,
  detail: EventDetails[`machine:${To}`],
): Promise<boolean> {
  const { rows } = await moves[to](change.tx, { ...columns, id });
  const row = written(change, rows[0]);
  if (!row) return false;
  change.record(`machine:${to}`, { jobId: row.jobId, machineId: id }, detail);
  return true;
}

type Columns = Partial<Omit<MachineRow, "id" | "state">>;

const moves = {
  booting: move("booting"),
  ready: move("ready"),
  busy: move("busy"),
  stopping: move("stopping"),
  gone: move("gone"),
};

function move(state: Exclude<MachineState, "creating">) {
  return prepared((db, { id, ...columns }: Pick<MachineRow, "id"> & Columns) =>
    db
      .updateTable("machines")
      .set({ ...columns, state })
      .where("id", "=", id)
      .where("state", "in", machineSourcesOf(state))
      .returningAll(),
  );
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

async function markHeard(change: Change, id: string): Promise<boolean> {
  const { rows } = await setHeard(change.tx, { id, heardAt: change.now });
  const row = written(change, rows[0]);
  if (!row) return false;
  change.record("machine:heard", { jobId: row.jobId, machineId: id }, {});
  return true;
}

const setHeard = prepared((db, { id, heardAt }: { id: string; heardAt: number }) =>
  db
    .updateTable("machines")
    .set({ heardAt })
    .where("id", "=", id)
    .where("heardAt", "is", null)
    .where("state", "!=", "gone")
    .returningAll(),
);

type MachineLinks = Pick<MachineStore, "issueLink">;

/** Only the hash of a secret is kept: whoever reads the database learns nothing that opens a connection. */
export function createMachineLinks(write: Write, random: (size: number) => Uint8Array): MachineLinks {
  return {
    async issueLink(machineId) {
      const secret = newLinkSecret(random);
      // Its host gets the secret next: after a power cut it must still be the one that opens.
      const isIssued = await write(
        `making a link for ${machineId}`,
        (change) => keepHash(change, machineId, linkHashOf(secret.reveal())),
        "power-cut",
      );
      return isIssued ? secret : undefined;
    },
  };
}

async function keepHash({ tx }: Change, machineId: string, secretHash: string): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await tx
    .insertInto("machineLinks")
    .columns(["machineId", "secretHash"])
    .expression(
      tx
        .selectFrom("machines")
        .select(({ val }) => ["id", val(secretHash).as("secretHash")])
        .where("id", "=", machineId)
        .where("state", "=", "creating"),
    )
    .onConflict((conflict) => conflict.column("machineId").doUpdateSet({ secretHash }))
    .executeTakeFirst();
  return numInsertedOrUpdatedRows === 1n;
}

/** In a time that does not depend on where a wrong secret differs. */
export async function checkLink(db: Kysely<Tables>, machineId: string, secret: string): Promise<boolean> {
  const row = await db
    .selectFrom("machineLinks")
    .select("secretHash")
    .where("machineId", "=", machineId)
    .executeTakeFirst();
  return isLinkSecret(secret, row?.secretHash);
}

/** From now on its secret opens nothing. */
async function eraseLink({ tx }: Pick<Change, "tx">, machineId: string): Promise<void> {
  await deleteLink(tx, { machineId });
}

const deleteLink = prepared((db, { machineId }: { machineId: string }) =>
  db.deleteFrom("machineLinks").where("machineId", "=", machineId),
);

export function createDrainedHostChanges(write: Write): Pick<HostStore, "drainHost" | "resumeHost"> {
  return {
    async drainHost(key) {
      await write(`draining ${key}`, async ({ tx, now, record, wrote }) => {
        const { numInsertedOrUpdatedRows } = await tx
          .insertInto("drainedHosts")
          .values({ key, drainedAt: now })
          .onConflict((conflict) => conflict.doNothing())
          .executeTakeFirst();
        if (numInsertedOrUpdatedRows !== 1n) return false;
        wrote({ host: { key, isDrained: true } });
        record("host:drained", { jobId: null, machineId: null }, { host: key });
        return true;
      });
    },
    async resumeHost(key) {
      await write(`resuming ${key}`, async ({ tx, record, wrote }) => {
        const { numDeletedRows } = await tx
          .deleteFrom("drainedHosts")
          .where("key", "=", key)
          .executeTakeFirst();
        if (numDeletedRows !== 1n) return false;
        wrote({ host: { key, isDrained: false } });
        record("host:resumed", { jobId: null, machineId: null }, { host: key });
        return true;
      });
    },
  };
}

export async function readDrainedHosts(db: Kysely<Tables>): Promise<string[]> {
  const rows = await db.selectFrom("drainedHosts").select("key").orderBy("key").execute();
  return rows.map(({ key }) => key);
}
