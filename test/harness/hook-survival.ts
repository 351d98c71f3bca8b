import { join } from "node:path";
import { openStoreReadOnly } from "../../src/store/reads.ts";

const ALL = 1_000_000;

export interface Survival {
  /** Of the deliveries asked for, those that the store does not have. */
  readonly missing: number;
  /** Of those it has, the ones whose project does not know of news at least as new. */
  readonly withoutNews: number;
  /** Projects that the next start has to read for their news. */
  readonly dueProjects: number;
}

/** What the state directory of a FireRunner that is dead says of deliveries, by `webhook-id`. */
export async function lookAfterCrash(state: string, ids: readonly string[]): Promise<Survival> {
  const store = await openStoreReadOnly(join(state, "firerunner.db"));
  try {
    const kept = new Map((await store.deliveries({ limit: ALL })).map((each) => [each.key, each]));
    const projects = new Map((await store.projects()).map((each) => [each.id, each]));
    const found = ids.map((id) => kept.get(id)).filter((each) => each !== undefined);
    const hasNews = ({ projectId, receivedAt }: (typeof found)[number]) =>
      (projects.get(projectId ?? 0)?.hookedAt ?? 0) >= receivedAt;
    const isDue = ({ hookedAt, readAt }: { hookedAt: number | null; readAt: number | null }) =>
      hookedAt !== null && hookedAt >= (readAt ?? 0);
    return {
      missing: ids.length - found.length,
      withoutNews: found.filter((each) => !hasNews(each)).length,
      dueProjects: [...projects.values()].filter(isDue).length,
    };
  } finally {
    await store.close();
  }
}
