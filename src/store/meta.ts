import type { Kysely } from "kysely";
import type { Tables } from "./tables.ts";

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
