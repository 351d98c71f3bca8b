import type { Kysely } from "kysely";
import { isLinkSecret, linkHashOf, newLinkSecret } from "../base/link-secret.ts";
import type { Store } from "./store.ts";
import type { Tables } from "./tables.ts";
import type { Change, Write } from "./writer.ts";

type MachineLinks = Pick<Store, "issueLink">;

/** Only the hash of a secret is kept: whoever reads the database learns nothing that opens a door. */
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
export async function eraseLink({ tx }: Pick<Change, "tx">, machineId: string): Promise<void> {
  await tx.deleteFrom("machineLinks").where("machineId", "=", machineId).execute();
}
