import type { Kysely } from "kysely";
import { chunksOf } from "./chunks.ts";
import type { Deliveries, KnownProject } from "./deliveries.ts";
import { cut, type Tables } from "./tables.ts";
import type { Change, Write } from "./writer.ts";

const LONGEST_PATH = 1_000;

type ProjectChanges = Pick<Deliveries, "noteProjects" | "noteProjectRead" | "forgetProject">;

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
export async function noteNews({ tx, now }: Change, projectIds: readonly number[]): Promise<void> {
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
