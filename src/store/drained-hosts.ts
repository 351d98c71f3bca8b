import type { Kysely } from "kysely";
import type { Store } from "./store.ts";
import type { Tables } from "./tables.ts";
import type { Write } from "./writer.ts";

export function createDrainedHostChanges(write: Write): Pick<Store, "drainHost" | "resumeHost"> {
  return {
    async drainHost(key) {
      await write(`draining ${key}`, async ({ tx, now, record }) => {
        const { numInsertedOrUpdatedRows } = await tx
          .insertInto("drainedHosts")
          .values({ key, drainedAt: now })
          .onConflict((conflict) => conflict.doNothing())
          .executeTakeFirst();
        if (numInsertedOrUpdatedRows !== 1n) return false;
        record("host:drained", { jobId: null, machineId: null }, { host: key });
        return true;
      });
    },
    async resumeHost(key) {
      await write(`resuming ${key}`, async ({ tx, record }) => {
        const { numDeletedRows } = await tx
          .deleteFrom("drainedHosts")
          .where("key", "=", key)
          .executeTakeFirst();
        if (numDeletedRows !== 1n) return false;
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
