import type { Kysely } from "kysely";
import { StoreError } from "./errors.ts";
import { createKey, readKey } from "./key-file.ts";
import { eraseToken } from "./runner-tokens.ts";
import { retireRunner } from "./runners.ts";
import type { Tables } from "./tables.ts";
import type { Vault } from "./vault.ts";
import type { Write } from "./writer.ts";

/** The key of the key file, made when it is missing and no payload needs the one that was there. Throws `store_key`. */
export async function installationKey(
  db: Kysely<Tables>,
  keyFile: string,
  random: (size: number) => Uint8Array,
): Promise<Uint8Array> {
  const key = await readKey(keyFile);
  if (key) return key;
  const payload = await db.selectFrom("payloads").select("jobId").limit(1).executeTakeFirst();
  if (!payload) return await createKey(keyFile, random);
  throw new StoreError("store_key", `the key file ${keyFile} is missing, and unfinished jobs need it`, {
    hint: "restore it from a backup; without it their payloads are lost: move the database away to start empty",
  });
}

/**
 * Throws `store_key` for a key that opens no payload. One payload that opens proves the key; one that does not may be damage
 * on the disk, all of them is another key. Tokens of runners do not count: a runner can be made anew, a job cannot.
 */
export async function refuseWrongKey(db: Kysely<Tables>, vault: Vault, keyFile: string): Promise<void> {
  const payloads = await db.selectFrom("payloads").selectAll().execute();
  const isRight = payloads.some(({ jobId, sealed }) => opens(() => vault.payloads.open(jobId, sealed)));
  if (isRight || payloads.length === 0) return;
  throw new StoreError("store_key", `the key in ${keyFile} is not the one this database was written with`, {
    hint: "restore the key that belongs to this database from a backup",
  });
}

/** Runners whose token no longer opens, by another key or by damage, are given up: deleted in GitLab, and others made for them. */
export async function retireUnreadable(db: Kysely<Tables>, vault: Vault, write: Write): Promise<void> {
  for (const { key, sealed } of await db.selectFrom("runnerTokens").selectAll().execute()) {
    if (opens(() => vault.runnerTokens.open(key, sealed))) continue;
    await write(`giving up runner ${key}`, async (change) => {
      await retireRunner(change, key, "its token cannot be read any more");
      await eraseToken(change.tx, key);
    });
  }
}

function opens(open: () => string): boolean {
  try {
    open();
    return true;
  } catch {
    return false;
  }
}
