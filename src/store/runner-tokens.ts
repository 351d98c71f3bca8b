import type { Kysely, Transaction } from "kysely";
import { Secret } from "../base/secret.ts";
import type { Tables } from "./tables.ts";
import type { Vault } from "./vault.ts";

export async function keepToken(
  tx: Transaction<Tables>,
  vault: Vault,
  key: string,
  token: Secret,
): Promise<void> {
  const sealed = vault.runnerTokens.seal(key, token.reveal());
  await tx
    .insertInto("runnerTokens")
    .values({ key, sealed })
    .onConflict((conflict) => conflict.column("key").doUpdateSet({ sealed }))
    .execute();
}

export async function eraseToken(tx: Transaction<Tables>, key: string): Promise<void> {
  await tx.deleteFrom("runnerTokens").where("key", "=", key).execute();
}

export async function readRunnerToken(
  db: Kysely<Tables>,
  vault: Vault,
  key: string,
): Promise<Secret | undefined> {
  const row = await db.selectFrom("runnerTokens").select("sealed").where("key", "=", key).executeTakeFirst();
  return row && new Secret(vault.runnerTokens.open(key, row.sealed));
}
