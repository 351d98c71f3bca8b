/** What is kept of webhooks: deliveries, each once, and of which projects there is news. */
import type { Kysely, Transaction } from "kysely";
import type { Delivery, DeliveryStore, KnownProject } from "./jobs-by-tag.ts";
import { chunksOf, cut, type Tables } from "./tables.ts";
import { type Change, takeNumbers, type Write } from "./writer.ts";

const DEFAULT_LIMIT = 100;
const LONGEST_KEY = 200;
const LONGEST_EVENT = 64;
const LONGEST_STATUS = 32;

type NewDelivery = Omit<Delivery, "receivedAt">;

const columns = ["key", "event", "projectId", "jobId", "status", "receivedAt"] as const;

export function createKeepDeliveries(write: Write): DeliveryStore["keepDeliveries"] {
  return async (deliveries) => {
    if (deliveries.length === 0) return [];
    return await write("storing deliveries", (change) => keep(change, deliveries), "power-cut");
  };
}

/** The keys decide, also between two of one batch: the first is new. Whoever was told `new` is the only one. */
async function keep(change: Change, deliveries: readonly NewDelivery[]): Promise<boolean[]> {
  const { tx, now } = change;
  const cleaned = deliveries.map(clean);
  const rows = new Map<string, NewDelivery>();
  for (const delivery of cleaned) if (!rows.has(delivery.key)) rows.set(delivery.key, delivery);
  const first = await takeNumbers(tx, "delivery", rows.size);
  const unseen = new Set<string>();
  const numbered = [...rows.values()].map((row, index) => ({ ...row, seq: first + index, receivedAt: now }));
  for (const chunk of chunksOf(numbered)) {
    const inserted = await tx
      .insertInto("deliveries")
      .values(chunk)
      .onConflict((conflict) => conflict.doNothing())
      .returning("key")
      .execute();
    for (const { key } of inserted) unseen.add(key);
  }
  const news = [...rows.values()].filter(({ key }) => unseen.has(key)).map(({ projectId }) => projectId);
  await noteNews(
    change,
    [...new Set(news)].filter((id) => id !== null),
  );
  return cleaned.map(({ key }) => unseen.delete(key));
}

/** One row that the database refuses would refuse the whole batch: nothing is taken as it comes from outside. */
function clean({ key, event, projectId, jobId, status }: NewDelivery): NewDelivery {
  return {
    key: cut(key, LONGEST_KEY),
    event: cut(event, LONGEST_EVENT),
    projectId: idOrNull(projectId),
    jobId: idOrNull(jobId),
    status: status === null ? null : cut(status, LONGEST_STATUS),
  };
}

function idOrNull(id: number | null): number | null {
  return Number.isSafeInteger(id) ? id : null;
}

export async function readDeliveries(
  db: Kysely<Tables>,
  { since, limit = DEFAULT_LIMIT }: { since?: number; limit?: number },
): Promise<Delivery[]> {
  const newestFirst = db
    .selectFrom("deliveries")
    .select(columns)
    .orderBy("receivedAt", "desc")
    .orderBy("seq", "desc")
    .limit(limit);
  return await (since === undefined ? newestFirst : newestFirst.where("receivedAt", ">=", since)).execute();
}

export async function readDeliveryOfJob(db: Kysely<Tables>, jobId: number): Promise<Delivery | undefined> {
  return await db
    .selectFrom("deliveries")
    .select(columns)
    .where("jobId", "=", jobId)
    .orderBy("seq", "desc")
    .limit(1)
    .executeTakeFirst();
}

/** Part of pruning. */
export async function deleteDeliveries(
  tx: Transaction<Tables>,
  before: number,
  mostRows: number,
): Promise<bigint> {
  const old = tx
    .selectFrom("deliveries")
    .select("key")
    .where("receivedAt", "<", before)
    .orderBy("receivedAt")
    .limit(mostRows);
  return (await tx.deleteFrom("deliveries").where("key", "in", old).executeTakeFirst()).numDeletedRows;
}

const LONGEST_PATH = 1_000;

type ProjectChanges = Pick<DeliveryStore, "noteProjects" | "noteProjectRead" | "forgetProject">;

export function createProjectChanges(write: Write): ProjectChanges {
  return {
    async noteProjects(projects) {
      if (projects.length > 0) await write("noting projects", (change) => notePaths(change, projects));
    },
    noteProjectRead: (id, readAt) =>
      write(`noting that project ${id} was read`, (change) => noteRead(change, id, readAt)),
    forgetProject: (id) =>
      write(`forgetting project ${id}`, async ({ tx }) => {
        await tx.deleteFrom("projects").where("id", "=", id).execute();
      }),
  };
}

export async function readProjects(db: Kysely<Tables>): Promise<KnownProject[]> {
  return await db.selectFrom("projects").select(["id", "path", "hookedAt", "readAt"]).orderBy("id").execute();
}

/**
 * Part of storing deliveries: there is news of these projects, each named once. The time is that of the receipt or a little later,
 * so a reading that began before the news has a lower one. A reading in the future was noted before the clock was set
 * back: it must not hide the news until then.
 */
async function noteNews({ tx, now }: Change, projectIds: readonly number[]): Promise<void> {
  // In one order everywhere: two that change the same rows in two orders would wait for each other.
  const rows = projectIds.toSorted((a, b) => a - b).map((id) => ({ id, path: "", hookedAt: now }));
  for (const chunk of chunksOf(rows)) {
    await tx
      .insertInto("projects")
      .values(chunk)
      .onConflict((conflict) =>
        conflict.column("id").doUpdateSet((eb) => ({
          hookedAt: now,
          readAt: eb
            .case()
            .when("projects.readAt", ">", now)
            .then(null)
            .else(eb.ref("projects.readAt"))
            .end(),
        })),
      )
      .execute();
  }
}

async function notePaths(
  { tx }: Change,
  projects: readonly { readonly id: number; readonly path: string }[],
): Promise<void> {
  const paths = new Map(projects.map(({ id, path }) => [id, cut(path, LONGEST_PATH)]));
  const rows = [...paths].map(([id, path]) => ({ id, path })).toSorted((a, b) => a.id - b.id);
  for (const chunk of chunksOf(rows)) {
    await tx
      .insertInto("projects")
      .values(chunk)
      .onConflict((conflict) =>
        conflict
          .column("id")
          .doUpdateSet((eb) => ({ path: eb.ref("excluded.path") }))
          .whereRef("projects.path", "!=", "excluded.path"),
      )
      .execute();
  }
}

/**
 * Never back, so that two readings may end in any order. But what lies in the future was noted before the clock was set back, and
 * would otherwise hold until then: a reading in the future is replaced, and news in the future are what this reading has seen.
 */
async function noteRead({ tx, now }: Change, id: number, readAt: number): Promise<void> {
  if (readAt > now) return;
  await tx
    .updateTable("projects")
    .set((eb) => ({
      readAt,
      hookedAt: eb.case().when("hookedAt", ">", now).then(null).else(eb.ref("hookedAt")).end(),
    }))
    .where("id", "=", id)
    .where((eb) => eb.or([eb("readAt", "is", null), eb("readAt", "<", readAt), eb("readAt", ">", now)]))
    .execute();
}
