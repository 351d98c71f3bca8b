import { createHash } from "node:crypto";
import type { Kysely, Transaction } from "kysely";
import { Secret } from "../base/secret.ts";
import type { EventDetails } from "../domain/events.ts";
import { liveRunnerStates, type RunnerState, runnerSourcesOf } from "../domain/states.ts";
import type { ManagedRunner, NewRunner, RunnerStore } from "./jobs-by-tag.ts";
import { type RunnerRow, type Tables, withoutNul, withSize } from "./tables.ts";
import type { Vault } from "./vault.ts";
import type { Change, Write } from "./writer.ts";

const MOST_GONE = 100;

type RunnerMoves = Omit<RunnerStore, "runners" | "runnerToken">;

interface Given {
  readonly gitlabId: number;
  readonly token: Secret;
  readonly tokenExpiresAt: number | null;
}

export function createRunnerMoves(write: Write, vault: Vault): RunnerMoves {
  return {
    addRunner: (runner) =>
      write(`storing runner ${runner.key}`, (change) => insertRunner(change, runner), "power-cut"),
    activateRunner: (key, given) =>
      write(`activating runner ${key}`, (change) => activate(change, vault, key, given), "power-cut"),
    replaceRunnerToken: (key, token, expiresAt) =>
      write(
        `replacing the token of runner ${key}`,
        (change) => replaceToken(change, vault, key, token, expiresAt),
        "power-cut",
      ),
    retireRunner: (key, reason, gitlabId) =>
      write(`retiring runner ${key}`, (change) => retireRunner(change, key, reason, gitlabId)),
    markRunnerGone: (key) => write(`noting that runner ${key} is gone`, (change) => markGone(change, key)),
    noteRunnerUsed: (key, at) =>
      write(`noting the use of runner ${key}`, (change) => noteTime(change, key, "usedAt", at)),
    noteRunnerVerified: (key, at) =>
      write(`noting that runner ${key} was verified`, (change) => noteTime(change, key, "verifiedAt", at)),
  };
}

/** All live ones, and the newest of those that are gone where asked for; oldest first. */
export async function readRunners(
  db: Kysely<Tables>,
  { gone = false }: { gone?: boolean },
): Promise<ManagedRunner[]> {
  const all = db.selectFrom("runners").selectAll();
  const live = await all.where("state", "in", liveRunnerStates).execute();
  const past = gone
    ? await all.where("state", "=", "gone").orderBy("goneAt", "desc").limit(MOST_GONE).execute()
    : [];
  const oldestFirst = (a: RunnerRow, b: RunnerRow) => a.createdAt - b.createdAt || (a.key < b.key ? -1 : 1);
  return [...live, ...past].toSorted(oldestFirst).map(toRunner);
}

function toRunner({ poolDigest: _, goneAt: __, tags, ...row }: RunnerRow): ManagedRunner {
  return { ...withSize(row), tags: JSON.parse(tags) as string[] };
}

async function insertRunner(change: Change, runner: NewRunner): Promise<boolean> {
  const { key, jobId, size } = runner;
  const pool = withoutNul(runner.pool);
  const tags = runner.tags.map(withoutNul);
  const { numInsertedOrUpdatedRows } = await change.tx
    .insertInto("runners")
    .values({
      ...{ key, pool, jobId, ...size },
      state: "creating",
      poolDigest: createHash("sha256").update(pool).digest("hex"),
      tags: JSON.stringify(tags),
      createdAt: change.now,
      usedAt: change.now,
    })
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  if (numInsertedOrUpdatedRows !== 1n) return false;
  change.record("runner:creating", { jobId, machineId: null }, { key, pool, tags });
  return true;
}

/** The compare-and-set: the row as it is now, or undefined when the runner was in no state that leads to `to`. */
async function moveRunner(
  { tx }: Change,
  key: string,
  to: RunnerState,
  columns: Partial<RunnerRow>,
): Promise<RunnerRow | undefined> {
  return await tx
    .updateTable("runners")
    .set({ ...columns, state: to })
    .where("key", "=", key)
    .where("state", "in", runnerSourcesOf(to))
    .returningAll()
    .executeTakeFirst();
}

function record<To extends Exclude<RunnerState, "creating">>(
  change: Change,
  to: To,
  row: RunnerRow,
  detail: EventDetails[`runner:${To}`],
): true {
  change.record(`runner:${to}`, { jobId: row.jobId, machineId: null }, detail);
  return true;
}

async function activate(change: Change, vault: Vault, key: string, given: Given): Promise<boolean> {
  const { gitlabId, token, tokenExpiresAt } = given;
  const row = await moveRunner(change, key, "active", { gitlabId, tokenExpiresAt, activeAt: change.now });
  if (!row) return false;
  await keepToken(change.tx, vault, key, token);
  return record(change, "active", row, { key, runner: gitlabId, pool: row.pool });
}

async function replaceToken(
  { tx }: Change,
  vault: Vault,
  key: string,
  token: Secret,
  tokenExpiresAt: number | null,
): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable("runners")
    .set({ tokenExpiresAt })
    .where("key", "=", key)
    .where("state", "=", "active")
    .executeTakeFirst();
  if (numUpdatedRows !== 1n) return false;
  await keepToken(tx, vault, key, token);
  return true;
}

/** One that retires already learns its id in GitLab, if it had none: without it nobody could delete it there. */
export async function retireRunner(
  change: Change,
  key: string,
  reason: string,
  gitlabId?: number,
): Promise<boolean> {
  const found = gitlabId !== undefined && (await noteGitlabId(change, key, gitlabId));
  const row = await moveRunner(change, key, "retiring", { reason: withoutNul(reason) });
  if (!row) return found;
  return record(change, "retiring", row, { key, runner: row.gitlabId, reason: withoutNul(reason) });
}

async function noteGitlabId({ tx }: Change, key: string, gitlabId: number): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable("runners")
    .set({ gitlabId })
    .where("key", "=", key)
    .where("gitlabId", "is", null)
    .where("state", "in", liveRunnerStates)
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

async function markGone(change: Change, key: string): Promise<boolean> {
  const row = await moveRunner(change, key, "gone", { goneAt: change.now });
  if (!row) return false;
  await eraseToken(change.tx, key);
  return record(change, "gone", row, { key, runner: row.gitlabId });
}

/** Never back: several may note at once. */
async function noteTime(
  { tx }: Change,
  key: string,
  column: "usedAt" | "verifiedAt",
  at: number,
): Promise<void> {
  await tx
    .updateTable("runners")
    .set({ [column]: at })
    .where("key", "=", key)
    .where("state", "in", liveRunnerStates)
    .where((eb) => eb.or([eb(column, "is", null), eb(column, "<", at)]))
    .execute();
}

async function keepToken(tx: Transaction<Tables>, vault: Vault, key: string, token: Secret): Promise<void> {
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
